// Package queues decides linearizability of a first-in-first-out queue in O(n log n), exactly, with dequeues of an
// empty queue and any number of unknown operations, provided that every element that was dequeued was enqueued once.
//
// A history of which each dequeue is known is linearizable unless (Henzinger, Sezgin & Vafeiadis, CONCUR 2013; for
// intervals that touch, read "over before it began" for "precedes"):
//
//   - an element is dequeued twice, or without having been enqueued, or before that;
//   - an enqueue of a precedes one of b, but the dequeue of b precedes that of a, or a is never dequeued and b is;
//   - a dequeue that found nothing lies within instants at each of which some element was certainly in: after the end
//     of its enqueue and before the start of its dequeue.
//
// An unknown enqueue took effect only if its element was dequeued: without it, and without the unknown dequeue that
// may have taken its element, a linearization stays one. What remains is which unknown dequeue took which of the
// elements that were enqueued for certain and that no answer names (lost ones). Let the lost one with the k-th end of
// its enqueue be taken by the unknown dequeue with the k-th start, and those beyond the last never. This loses
// nothing: the first of several lost ones has the tightest constraints of every kind. If a's enqueue ends before b's,
// then whatever b's enqueue precedes is preceded by a's, so a must be taken no later than b for the order's sake, and
// no later for the sake of each dequeue that found nothing. So all that is asked for is that by certain instants so
// many of the first have been taken, and this is possible for every instant at once if it is for each alone.
package queues

import (
	"aftershock/native/internal/history"
	"aftershock/native/internal/places"
	"aftershock/native/internal/settled"
)

// element with the intervals in which it came in and went out.
type element struct {
	enqueue, dequeue int32 // indices of operations; settled.None where no answer tells who took it
	lost             int32 // its number among the lost ones; settled.None where it is none
	inStart, inEnd   int64
	outStart, outEnd int64 // both Open when it stays
}

type decider struct {
	ops      []history.Op
	elements []element
	takers   []int32 // indices of unknown dequeues, by start
	lost     []int32 // elements, by end of the enqueue
	empty    []int32 // indices of dequeues that found nothing
}

// Decide judges the operations of one key. Of an illegal history it also returns operations that contradict each
// other: enqueues and dequeues of the same elements; of elements that nobody was seen to dequeue one more than
// unknown dequeues that can have taken them by then, and those.
func Decide(ops []history.Op) (history.Outcome, []int) {
	d := &decider{ops: ops}
	if outcome, culprits := d.collect(); outcome != history.Legal {
		return outcome, culprits
	}
	d.match()
	if culprits := d.order(); culprits != nil {
		return history.Illegal, culprits
	}
	if culprits := d.emptiness(); culprits != nil {
		return history.Illegal, culprits
	}
	return history.Legal, nil
}

// collect finds the dequeue of every enqueue. Illegal where that cannot be.
func (d *decider) collect() (history.Outcome, []int) {
	table := settled.Table(d.ops, func(op *history.Op) bool { return op.F == history.Enqueue })
	var elements []element
	var repeated []bool // somebody else enqueued the same
	for i := range d.ops {
		op := &d.ops[i]
		if op.F != history.Enqueue {
			continue
		}
		place := table.Add(op.Value, int32(len(elements)))
		repeated = append(repeated, false)
		repeated[place] = int(place) != len(elements)
		elements = append(elements, element{
			enqueue: int32(i), dequeue: settled.None, lost: settled.None,
			inStart: op.Start, inEnd: settled.End(op), outStart: history.Open, outEnd: history.Open,
		})
	}
	for i := range d.ops {
		op := &d.ops[i]
		switch {
		case op.F == history.Enqueue:
			continue
		case op.F != history.Dequeue:
			return history.NotApplicable, nil
		case !settled.Certain(op):
			d.takers = append(d.takers, int32(i))
			continue
		case op.Value == history.Absent:
			d.empty = append(d.empty, int32(i))
			continue
		}
		place := table.Find(op.Value)
		if place == places.None {
			return history.Illegal, []int{i}
		}
		e := &elements[place]
		switch {
		case repeated[place]:
			return history.NotApplicable, nil
		case e.dequeue != settled.None:
			return history.Illegal, []int{int(e.enqueue), int(e.dequeue), i}
		case op.End < e.inStart:
			return history.Illegal, []int{int(e.enqueue), i}
		}
		e.dequeue, e.outStart, e.outEnd = int32(i), op.Start, op.End
	}
	for _, e := range elements {
		if e.dequeue != settled.None || settled.Certain(&d.ops[e.enqueue]) {
			d.elements = append(d.elements, e)
		}
	}
	return history.Legal, nil
}

// match lets unknown dequeues take lost elements: the first start the one that was in first.
func (d *decider) match() {
	d.takers = d.sorted(d.takers, func(i int32) int64 { return d.ops[i].Start })
	for place := range d.elements {
		if d.elements[place].dequeue == settled.None {
			d.lost = append(d.lost, int32(place))
		}
	}
	d.lost = d.sorted(d.lost, func(place int32) int64 { return d.elements[place].inEnd })
	for k, place := range d.lost {
		e := &d.elements[place]
		e.lost = int32(k)
		if k < len(d.takers) {
			e.outStart = d.ops[d.takers[k]].Start
		}
	}
}

func (d *decider) sorted(numbers []int32, key func(number int32) int64) []int32 {
	ordered := make([]int32, 0, len(numbers))
	for _, k := range settled.Sorted(len(numbers), func(k int) int64 { return key(numbers[k]) }) {
		ordered = append(ordered, numbers[k])
	}
	return ordered
}

// order looks for an element that was out before another one, which had come in before it, could be.
func (d *decider) order() []int {
	byStart := settled.Sorted(len(d.elements), func(place int) int64 { return d.elements[place].inStart })
	byEnd := settled.Sorted(len(d.elements), func(place int) int64 { return d.elements[place].inEnd })
	before := settled.New() // when the elements that were in before went out
	next := 0
	for _, place := range byStart {
		later := &d.elements[place]
		for ; next < len(byEnd) && d.elements[byEnd[next]].inEnd < later.inStart; next++ {
			before.Began(int(byEnd[next]), d.elements[byEnd[next]].outStart)
		}
		by := before.Contradicts(later.outEnd)
		if by == settled.None {
			continue
		}
		culprits := []int{int(later.enqueue), int(later.dequeue)}
		earlier := &d.elements[by]
		if earlier.dequeue != settled.None {
			return append(culprits, int(earlier.enqueue), int(earlier.dequeue))
		}
		// One more lost element, up to this one, than there are unknown dequeues that can have taken them.
		takers := d.takersBy(later.outEnd)
		for _, place := range d.lost[int(earlier.lost)-len(takers) : earlier.lost+1] {
			culprits = append(culprits, int(d.elements[place].enqueue))
		}
		return append(culprits, takers...)
	}
	return nil
}

// takersBy returns the unknown dequeues that began by an instant.
func (d *decider) takersBy(instant int64) []int {
	var takers []int
	for _, i := range d.takers {
		if d.ops[i].Start <= instant {
			takers = append(takers, int(i))
		}
	}
	return takers
}

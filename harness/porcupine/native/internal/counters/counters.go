// Package counters decides linearizability of a counter that is incremented by equal amounts and read, in O(n log n),
// exactly, for any number of unknown increments.
//
// The number of increments that have taken effect is kept as small as it can be at every instant: an increment is
// counted when it ends, or earlier if a read that ends needs a larger number, and then the one first that must be
// counted next anyway (unknown ones last, they need not be counted at all). Any linearization counts at least as many
// at every instant, by exchange: of increments that have begun, counting one that ends earlier in place of one that
// ends later never makes it necessary to count more. So a read is impossible if more are counted when it begins than
// it found, or if fewer have begun when it ends. Otherwise the number steps through what it found while it lasts.
//
// Where amounts differ, which ones make up a number is the subset-sum problem. Then only bounds are looked at: a read
// found no less than what was certainly added before, and all that was taken away for certain or may have been; and no
// more than the converse. What passes these is not decided.
package counters

import (
	"container/heap"

	"aftershock/native/internal/history"
	"aftershock/native/internal/settled"
)

type decider struct {
	ops      []history.Op
	byStart  []int32 // indices of operations
	byEnd    []int32 // indices of operations that certainly happened
	amount   int64   // of every increment; 0 when there is none
	differ   bool    // amounts differ
	culprits []int
}

// Decide judges the operations of one key. Of an illegal history it also returns reads that contradict each other, or
// the increments: all of those belong to them.
func Decide(ops []history.Op) (history.Outcome, []int) {
	d := &decider{ops: ops}
	if !d.collect() {
		return history.NotApplicable, nil
	}
	if d.differ {
		return d.bounds()
	}
	if d.sweep() {
		return history.Legal, nil
	}
	return history.Illegal, d.culprits
}

// greatest is an amount up to which no sum of as many as a history can have overflows.
const greatest = 1 << 31

// collect sorts the operations; false where there are others than reads and increments, or amounts beyond all reason.
func (d *decider) collect() bool {
	for i := range d.ops {
		switch op := &d.ops[i]; {
		case op.F == history.Read:
		case op.F != history.Increment || op.Value > greatest || op.Value < -greatest:
			return false
		case op.Value == 0: // changes nothing
		case d.amount == 0:
			d.amount = op.Value
		default:
			d.differ = d.differ || op.Value != d.amount
		}
	}
	d.byStart = settled.Sorted(len(d.ops), func(i int) int64 { return d.ops[i].Start })
	var certain []int32
	for i := range d.ops {
		if settled.Certain(&d.ops[i]) {
			certain = append(certain, int32(i))
		}
	}
	for _, k := range settled.Sorted(len(certain), func(k int) int64 { return d.ops[certain[k]].End }) {
		d.byEnd = append(d.byEnd, certain[k])
	}
	return true
}

// begun holds increments that have begun and are not counted, as a heap: the one that ends first is the first.
type begun struct {
	ops     []history.Op
	waiting []int32
}

func (b *begun) Len() int { return len(b.waiting) }
func (b *begun) Less(i, j int) bool {
	return settled.End(&b.ops[b.waiting[i]]) < settled.End(&b.ops[b.waiting[j]])
}
func (b *begun) Swap(i, j int) { b.waiting[i], b.waiting[j] = b.waiting[j], b.waiting[i] }
func (b *begun) Push(x any)    { b.waiting = append(b.waiting, x.(int32)) }
func (b *begun) Pop() any {
	last := b.waiting[len(b.waiting)-1]
	b.waiting = b.waiting[:len(b.waiting)-1]
	return last
}

// sweep goes through all instants, starts before ends; false, with culprits, at a read that cannot be.
func (d *decider) sweep() bool {
	open := &begun{ops: d.ops}
	counted := int64(0)
	largest := settled.None // the read that found most of those that have ended
	next := 0
	for _, at := range d.byEnd {
		end := d.ops[at].End
		for ; next < len(d.byStart) && d.ops[d.byStart[next]].Start <= end; next++ {
			i := int(d.byStart[next])
			op := &d.ops[i]
			if op.F == history.Increment && op.Value != 0 {
				heap.Push(open, int32(i))
			}
			if op.F != history.Read || op.Unknown {
				continue
			}
			if found, possible := d.found(op); !possible || found < counted {
				d.tooMany(i, largest)
				return false
			}
		}
		if d.ops[at].F == history.Increment {
			// Increments that end together all go now: none of them can wait.
			for open.Len() > 0 && settled.End(&d.ops[open.waiting[0]]) <= end {
				heap.Pop(open)
				counted++
			}
			continue
		}
		found, _ := d.found(&d.ops[at])
		for ; counted < found; counted++ {
			if open.Len() == 0 {
				d.culprits = []int{int(at)} // too few had begun
				return false
			}
			heap.Pop(open)
		}
		if best, _ := d.found(&d.ops[max(largest, 0)]); largest == settled.None || found > best {
			largest = int(at)
		}
	}
	return true
}

// found returns how many increments make up what a read found; false when no number of them does.
func (d *decider) found(op *history.Op) (int64, bool) {
	if d.amount == 0 {
		return op.Value, op.Value == 0
	}
	return op.Value / d.amount, op.Value%d.amount == 0
}

// tooMany names a read before which more was counted than it found, and another one that had found more by then. If
// there is none, any of those that had ended may be why so much was counted.
func (d *decider) tooMany(at, largest int) {
	d.culprits = []int{at}
	found, possible := d.found(&d.ops[at])
	if !possible || largest == settled.None {
		return
	}
	if most, _ := d.found(&d.ops[largest]); most > found {
		d.culprits = append(d.culprits, largest)
		return
	}
	for i := range d.ops {
		if d.ops[i].F == history.Read && !d.ops[i].Unknown && d.ops[i].End < d.ops[at].Start {
			d.culprits = append(d.culprits, i)
		}
	}
}

// sums of amounts above and below zero.
type sums struct{ above, below int64 }

func (s *sums) add(amount int64) {
	s.above += max(amount, 0)
	s.below += min(amount, 0)
}

// bounds is for amounts that differ: a read that found what no choice of them can make up is impossible.
func (d *decider) bounds() (history.Outcome, []int) {
	over := make([]sums, len(d.ops)) // what had ended when each began
	var ended, begun sums
	next := 0
	for _, i := range d.byStart {
		for ; next < len(d.byEnd) && d.ops[d.byEnd[next]].End < d.ops[i].Start; next++ {
			if op := &d.ops[d.byEnd[next]]; op.F == history.Increment {
				ended.add(op.Value)
			}
		}
		over[i] = ended
	}
	next = 0
	for _, i := range d.byEnd {
		for ; next < len(d.byStart) && d.ops[d.byStart[next]].Start <= d.ops[i].End; next++ {
			if op := &d.ops[d.byStart[next]]; op.F == history.Increment {
				begun.add(op.Value)
			}
		}
		op := &d.ops[i]
		if op.F != history.Read {
			continue
		}
		if op.Value < over[i].above+begun.below || op.Value > over[i].below+begun.above {
			return history.Illegal, []int{int(i)}
		}
	}
	return history.NotApplicable, nil
}

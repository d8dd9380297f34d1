// Package sets decides linearizability of a grow-only set with contains and reads of the whole set, both in one
// history if need be, in time linear in the size of all answers but for sorting, exactly, for any number of unknown
// operations and of adds of the same element.
//
// An element comes in once and stays, so it stands for one virtual operation: its coming in, at the first add that
// took effect. That is not before the first start of its adds, nor before the last start of a contains that did not
// find it; and it is by the first end of a completed add or of a contains that did. (Contains asks nothing else: given
// the instant, each such operation finds a place before or after it.) Members seen by reads of the whole set must form
// a chain, each a part of the next, which settles the groups (package settled): reads of nothing, what the smallest
// read has, the reads that have it, what the next larger one has beyond that, …, and last what certainly came in and
// no read has. An element of which only unknown adds tell, and that nobody found, is left out: no answer needs it.
package sets

import (
	"math"

	"aftershock/native/internal/history"
	"aftershock/native/internal/places"
	"aftershock/native/internal/settled"
)

// element is the coming in of one.
type element struct {
	value    int64
	added    bool
	start    int64 // smallest of its adds
	missing  int64 // largest start of a contains that did not find it, by `missedBy`
	missedBy int32
	end      int64 // smallest end of a completed add, or of a contains that found it: `endBy`
	endBy    int32
	level    int32 // of the smallest read of the whole set that has it
}

// earliest instant at which it can come in.
func (e *element) earliest() int64 { return max(e.start, e.missing) }

// read of the whole set; its members are members[first:last], each once.
type read struct {
	op          int32
	first, last int
}

func (r *read) size() int { return r.last - r.first }

type decider struct {
	ops      []history.Op
	places   *places.Table
	elements []element
	reads    []read  // the smallest first
	members  []int32 // places of elements
	levels   []int32 // an operation that read the whole set, of every size that there was
}

// Decide judges the operations of one key. Of an illegal history it also returns operations that contradict each
// other: two reads of which none is a part of the other; or those that say when one thing began and another had ended
// and, where that is not obvious from them, a read that tells which came first. Of an element, all adds are among them
// where their start matters. What has an element needs its adds beside it.
func Decide(ops []history.Op) (history.Outcome, []int) {
	d := &decider{ops: ops}
	if !d.collect() {
		return history.NotApplicable, nil
	}
	if culprits := d.alone(); culprits != nil {
		return history.Illegal, culprits
	}
	if culprit := d.wholes(); culprit != settled.None {
		return history.Illegal, []int{culprit}
	}
	if culprits := d.groups(); culprits != nil {
		return history.Illegal, culprits
	}
	return history.Legal, nil
}

// collect gives each element its bounds; false when there is an operation that is none of a set's.
func (d *decider) collect() bool {
	named := func(op *history.Op) bool { return op.F == history.Add || op.F == history.Contains }
	d.places = settled.Table(d.ops, named)
	for i := range d.ops {
		op := &d.ops[i]
		switch {
		case op.F == history.ReadAll || op.F == history.Contains && op.Unknown:
			continue
		case !named(op):
			return false
		}
		e := d.element(op.Value)
		switch {
		case op.F == history.Add:
			e.added = true
			e.start = min(e.start, op.Start)
			if end := settled.End(op); end < e.end {
				e.end, e.endBy = end, int32(i)
			}
		case op.Expected != 0:
			if op.End < e.end {
				e.end, e.endBy = op.End, int32(i)
			}
		case e.missedBy == settled.None || op.Start > e.missing:
			e.missing, e.missedBy = op.Start, int32(i)
		}
	}
	return true
}

func (d *decider) element(value int64) *element {
	place := d.places.Add(value, int32(len(d.elements)))
	if int(place) == len(d.elements) {
		d.elements = append(d.elements, element{
			value: value, start: math.MaxInt64, missing: math.MinInt64, missedBy: settled.None,
			end: history.Open, endBy: settled.None, level: settled.None,
		})
	}
	return &d.elements[place]
}

// alone looks for an element that was found and not added, or that contradicts itself.
func (d *decider) alone() []int {
	for place := range d.elements {
		switch e := &d.elements[place]; {
		case e.endBy == settled.None:
		case !e.added:
			return []int{int(e.endBy)}
		case e.end < e.earliest():
			return append(d.beginning(int32(place)), int(e.endBy))
		}
	}
	return nil
}

// wholes collects the members that each read of the whole set had, by size. Returns one that had what nobody added.
func (d *decider) wholes() int {
	var unsorted []read
	lastSeen := make([]int32, len(d.elements))
	for i := range d.ops {
		op := &d.ops[i]
		if op.F != history.ReadAll || op.Unknown {
			continue
		}
		one := read{op: int32(i), first: len(d.members)}
		for _, value := range op.Items {
			place := d.places.Find(value)
			if place == places.None || !d.elements[place].added {
				return i
			}
			if lastSeen[place] != int32(i)+1 { // an answer that names a member twice means no more than once
				lastSeen[place] = int32(i) + 1
				d.members = append(d.members, place)
			}
		}
		one.last = len(d.members)
		unsorted = append(unsorted, one)
	}
	for _, k := range settled.Sorted(len(unsorted), func(k int) int64 { return int64(unsorted[k].size()) }) {
		d.reads = append(d.reads, unsorted[k])
	}
	return settled.None
}

// groups walks the order that reads of the whole set have settled. In it, elements go by their place and operations
// by their index after all elements.
func (d *decider) groups() []int {
	order := settled.New()
	for next, known := 0, 0; next < len(d.reads); {
		first := next
		level := int32(len(d.levels))
		d.levels = append(d.levels, d.reads[first].op)
		fresh, chained := d.fresh(&d.reads[first], level, known)
		if !chained {
			return []int{int(d.levels[level-1]), int(d.reads[first].op)}
		}
		for _, place := range fresh {
			if by := order.Contradicts(d.elements[place].end); by != settled.None {
				return d.contradiction(by, int(place))
			}
		}
		for _, place := range fresh {
			order.Began(int(place), d.elements[place].earliest())
		}
		known = d.reads[first].size()
		for ; next < len(d.reads) && d.reads[next].size() == known; next++ {
			if _, same := d.fresh(&d.reads[next], level, known); !same {
				return []int{int(d.reads[first].op), int(d.reads[next].op)}
			}
			if by := order.Contradicts(d.ops[d.reads[next].op].End); by != settled.None {
				return d.contradiction(by, len(d.elements)+int(d.reads[next].op))
			}
		}
		for _, r := range d.reads[first:next] {
			order.Began(len(d.elements)+int(r.op), d.ops[r.op].Start)
		}
	}
	for place := range d.elements {
		e := &d.elements[place]
		if by := order.Contradicts(e.end); e.level == settled.None && by != settled.None {
			return d.contradiction(by, place)
		}
	}
	return nil
}

// fresh gives a level to the members of a read that have none, and returns them; false when the read lacks any of the
// `known` that had one.
func (d *decider) fresh(r *read, level int32, known int) ([]int32, bool) {
	var fresh []int32
	for _, place := range d.members[r.first:r.last] {
		if d.elements[place].level == settled.None {
			d.elements[place].level = level
			fresh = append(fresh, place)
		}
	}
	return fresh, r.size()-len(fresh) == known
}

// contradiction is of one thing that began after another one, which must come later, had ended.
func (d *decider) contradiction(earlier, later int) []int {
	var culprits []int
	if later < len(d.elements) {
		culprits = append(culprits, int(d.elements[later].endBy))
	} else {
		culprits = append(culprits, later-len(d.elements))
	}
	if earlier >= len(d.elements) {
		return append(culprits, earlier-len(d.elements))
	}
	// The smallest read that has the one and not the other tells that it came first.
	if tells := int(d.levels[d.elements[earlier].level]); tells != culprits[0] {
		culprits = append(culprits, tells)
	}
	return append(culprits, d.beginning(int32(earlier))...)
}

// beginning returns what keeps an element from coming in earlier.
func (d *decider) beginning(place int32) []int {
	e := &d.elements[place]
	if e.missedBy != settled.None && e.missing >= e.start {
		return []int{int(e.missedBy)}
	}
	var adds []int
	for i := range d.ops {
		if d.ops[i].F == history.Add && d.ops[i].Value == e.value {
			adds = append(adds, i)
		}
	}
	return adds
}

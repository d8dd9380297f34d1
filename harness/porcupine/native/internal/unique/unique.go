// Package unique decides linearizability of a register with read, write and compare-and-set in O(n log n), exactly,
// for any number of unknown operations, provided that every written value is written once and is not the initial one.
//
// The idea is Gibbons & Korach's (SIAM J. Comput. 26(4), 1997): unique values tell which write each read saw. An
// unknown operation took effect only if somebody saw its value, so nothing is left to guess. All operations on a
// value, and on the values that compare-and-set derives from it, form a block that is contiguous in every
// linearization; blocks are ordered by their times alone (zones: Golab et al., ICDCS 2013).
package unique

import (
	"math"
	"slices"
	"sync"

	"aftershock/native/internal/history"
	"aftershock/native/internal/places"
	"aftershock/native/internal/radix"
)

const (
	initial = 0  // place of the virtual writer of the initial value
	none    = -1 // no such place
)

// cell is a value: its writer, who read it, and which compare-and-set replaced it.
type cell struct {
	value        int64
	start, end   int64 // of its writer
	minReadEnd   int64
	maxReadStart int64
	writer       int32 // index of the operation; none for the initial value
	from         int32 // place of the value that the writer, a CAS, replaced; none for a plain write
	next         int32 // place of the value that an effective CAS replaced this one by
	derived      bool  // its writer is a CAS
	observed     bool
	effective    bool
	reached      bool // it is in a block
}

// decider is the work on one key. It is used again for another, because its memory is the larger part of its cost.
type decider struct {
	ops    []history.Op
	places places.Table
	cells  []cell
	blocks blocks
	sorter radix.Sorter

	unequal []int32  // compare-and-sets that did not match
	periods []period // by time; only when there are such
}

var idle = sync.Pool{New: func() any { return new(decider) }}

// Decide judges the operations of one key. For an illegal history it also returns the indices of operations that
// contain a contradiction, usually far fewer than all.
func Decide(ops []history.Op) (history.Outcome, []int) {
	d := idle.Get().(*decider)
	defer idle.Put(d)
	d.ops = ops
	defer func() { d.ops = nil }()
	if !d.writers() {
		return history.NotApplicable, nil
	}
	applicable, culprits := d.observations()
	if culprits == nil {
		culprits = d.unknowns()
	}
	if culprits != nil {
		return history.Illegal, d.expand(culprits)
	}
	if root := d.chains(); root != none {
		return history.Illegal, d.members(root)
	}
	if culprits := d.cycle(); culprits != nil {
		return history.Illegal, d.expand(culprits)
	}
	if a, b := d.blocks.conflict(&d.sorter); a != none {
		return history.Illegal, d.members(a, b)
	}
	outcome, culprits := history.Legal, []int(nil)
	if len(d.unequal) > 0 {
		outcome, culprits = d.mismatches()
	}
	if outcome == history.Legal && !applicable {
		return history.NotApplicable, nil
	}
	return outcome, culprits
}

func newCell(value int64, writer int32, start, end int64) cell {
	return cell{
		value: value, writer: writer, start: start, end: end, from: none, next: none,
		minReadEnd: math.MaxInt64, maxReadStart: math.MinInt64,
	}
}

// writers gives each written value its cell, in the order of the operations; false when a value has two writers.
func (d *decider) writers() bool {
	first := newCell(history.Absent, none, math.MinInt64, math.MinInt64)
	first.effective = true
	count := 1
	for i := range d.ops {
		if _, writes := d.ops[i].Writes(); writes {
			count++
		}
	}
	d.cells = append(slices.Grow(d.cells[:0], count), first)
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range d.ops {
		op := &d.ops[i]
		value, writes := op.Writes()
		if !writes {
			continue
		}
		if value == history.Absent {
			return false
		}
		low, high = min(low, value), max(high, value)
		one := newCell(value, int32(i), op.Start, op.End)
		one.effective = !op.Unknown
		d.cells = append(d.cells, one)
	}
	d.places.Reset(low, max(low, high), len(d.cells))
	for place := 1; place < len(d.cells); place++ {
		if d.places.Add(d.cells[place].value, int32(place)) != int32(place) {
			return false
		}
	}
	return true
}

// find returns the place of a value, none when nobody wrote it.
func (d *decider) find(value int64) int32 {
	if value == history.Absent {
		return initial
	}
	return d.places.Find(value)
}

// observations notes what was certainly seen. Culprits saw what nobody wrote, or both replaced the one occurrence of
// a value. It is not applicable when there are operations of other models.
func (d *decider) observations() (applicable bool, culprits []int) {
	d.unequal = d.unequal[:0]
	applicable = true
	own := int32(initial)
	for i := range d.ops {
		op := &d.ops[i]
		switch op.F {
		case history.Read:
			place := d.find(op.Value)
			if place == none {
				return applicable, []int{i}
			}
			c := &d.cells[place]
			c.observed = true
			c.minReadEnd = min(c.minReadEnd, op.End)
			c.maxReadStart = max(c.maxReadStart, op.Start)
		case history.Write:
			own++
		case history.CAS:
			own++
			if op.Weakened {
				continue
			}
			place := d.find(op.Expected)
			d.cells[own].derived = true
			d.cells[own].from = place
			if op.Unknown {
				continue // it counts only if somebody saw what it wrote
			}
			if place == none {
				return applicable, []int{i}
			}
			if other := d.replace(place, own); other != none {
				return applicable, []int{i, int(d.cells[other].writer)}
			}
		case history.Unequal:
			d.unequal = append(d.unequal, int32(i))
		default:
			applicable = false
		}
	}
	return applicable, nil
}

// replace records that the CAS which wrote `next` took effect on the value at `place`; returns the place that another
// CAS had made of it already.
func (d *decider) replace(place, next int32) int32 {
	c := &d.cells[place]
	if c.next != none && c.next != next {
		return c.next
	}
	c.next = next
	c.observed = true
	return none
}

// unknowns lets every unknown operation take effect whose value was seen, which makes the value seen that it replaced.
func (d *decider) unknowns() []int {
	for i := range d.cells {
		// From each value that was seen back along those that were replaced, until one that is known to be there.
		for place := int32(i); d.cells[place].observed && !d.cells[place].effective; {
			c := &d.cells[place]
			c.effective = true
			if !c.derived {
				break
			}
			if c.from == none {
				return []int{int(c.writer)}
			}
			if other := d.replace(c.from, place); other != none {
				return []int{int(c.writer), int(d.cells[other].writer)}
			}
			place = c.from
		}
	}
	return nil
}

// chains walks every block in its forced order: writer, its readers, the CAS that replaced it, its readers, and so
// on. Nobody may have ended before somebody earlier in that order began. Returns the first value of a block where
// somebody did.
func (d *decider) chains() int32 {
	d.blocks.reset(len(d.cells))
	for root := range d.cells {
		if !d.cells[root].effective || d.cells[root].derived {
			continue
		}
		b := block{root: int32(root), minEnd: math.MaxInt64, maxStart: math.MinInt64}
		broken := false
		for place := int32(root); place != none; {
			c := &d.cells[place]
			c.reached = true
			broken = broken || c.end < b.maxStart
			b.maxStart = max(b.maxStart, c.start)
			broken = broken || c.minReadEnd < b.maxStart
			b.maxStart = max(b.maxStart, c.maxReadStart)
			b.minEnd = min(b.minEnd, c.end, c.minReadEnd)
			place = c.next
		}
		if broken {
			return int32(root)
		}
		d.blocks.add(b)
	}
	return none
}

// cycle finds an effective CAS that no chain reaches: each value of its circle was made from another one of it.
func (d *decider) cycle() []int {
	for place := range d.cells {
		if c := &d.cells[place]; c.effective && !c.reached {
			return []int{int(c.writer)}
		}
	}
	return nil
}

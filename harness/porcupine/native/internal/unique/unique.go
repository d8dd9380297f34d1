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

	"aftershock/native/internal/history"
)

// Outcome of a decision.
type Outcome int

// NotApplicable means that the precondition does not hold: a value is written twice, or the key is deleted.
const (
	Legal Outcome = iota
	Illegal
	NotApplicable
)

const (
	initial = 0  // place of the virtual writer of the initial value
	none    = -1 // no such place
)

// cell is a value: its writer, who read it, and which compare-and-set replaced it.
type cell struct {
	writer         int // index of the operation; none for the initial value
	start, end     int64
	from           int // place of the value that the writer, a CAS, replaced; none for a plain write
	next           int // place of the value that an effective CAS replaced this one by
	observed       bool
	effective      bool
	minReadEnd     int64
	maxReadStart   int64
	block          int
	derivesFromCAS bool
}

// block is a maximal chain of values, each derived by compare-and-set from the one before.
type block struct {
	first    int   // place of its first value
	minEnd   int64 // smallest end of its operations
	maxStart int64 // largest start of its operations
}

type decider struct {
	ops    []history.Op
	places map[int64]int
	cells  []cell
	blocks []block
}

// Decide judges the operations of one key. For an illegal history it also returns the indices of operations that
// contain a contradiction, usually far fewer than all.
func Decide(ops []history.Op) (Outcome, []int) {
	d := &decider{ops: ops}
	if !d.writers() {
		return NotApplicable, nil
	}
	if culprits := d.observations(); culprits != nil {
		return Illegal, d.expand(culprits)
	}
	if culprits := d.unknowns(); culprits != nil {
		return Illegal, d.expand(culprits)
	}
	if culprit := d.chains(); culprit != none {
		return Illegal, d.members(culprit)
	}
	if culprit := d.cycle(); culprit != nil {
		return Illegal, d.expand(culprit)
	}
	if a, b := d.conflict(); a != none {
		return Illegal, append(d.members(a), d.members(b)...)
	}
	return Legal, nil
}

// writers gives each written value its cell; false when a value has two writers.
func (d *decider) writers() bool {
	d.places = make(map[int64]int, len(d.ops)/2+1)
	d.places[history.Absent] = initial
	d.cells = append(make([]cell, 0, len(d.ops)/2+1), cell{
		writer: none, start: math.MinInt64, end: math.MinInt64, from: none, next: none, effective: true,
		minReadEnd: math.MaxInt64, maxReadStart: math.MinInt64, block: none,
	})
	for i := range d.ops {
		value, writes := d.ops[i].Writes()
		if !writes {
			continue
		}
		if _, taken := d.places[value]; taken {
			return false
		}
		d.places[value] = len(d.cells)
		d.cells = append(d.cells, cell{
			writer: i, start: d.ops[i].Start, end: d.ops[i].End, from: none, next: none, effective: !d.ops[i].Unknown,
			minReadEnd: math.MaxInt64, maxReadStart: math.MinInt64, block: none,
		})
	}
	return true
}

// observations notes what was certainly seen. Returns operations that saw what nobody wrote, or that both replaced
// the one occurrence of a value.
func (d *decider) observations() []int {
	for i := range d.ops {
		op := &d.ops[i]
		value, observes := op.Observes()
		if !observes {
			continue
		}
		place, written := d.places[value]
		if op.F == history.CAS {
			own := d.places[op.Value]
			d.cells[own].derivesFromCAS = true
			if written {
				d.cells[own].from = place
			}
			if op.Unknown {
				continue // it counts only if somebody saw what it wrote
			}
			if !written {
				return []int{i}
			}
			if other := d.replace(place, own); other != none {
				return []int{i, d.cells[other].writer}
			}
			continue
		}
		if !written {
			return []int{i}
		}
		c := &d.cells[place]
		c.observed = true
		c.minReadEnd = min(c.minReadEnd, op.End)
		c.maxReadStart = max(c.maxReadStart, op.Start)
	}
	return nil
}

// replace records that the CAS which wrote `next` took effect on the value at `place`; returns the place that another
// CAS had made of it already.
func (d *decider) replace(place, next int) int {
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
	var waiting []int
	for place := range d.cells {
		if d.cells[place].observed && !d.cells[place].effective {
			waiting = append(waiting, place)
		}
	}
	for len(waiting) > 0 {
		place := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		c := &d.cells[place]
		if c.effective {
			continue
		}
		c.effective = true
		if !c.derivesFromCAS {
			continue
		}
		if c.from == none {
			return []int{c.writer}
		}
		if other := d.replace(c.from, place); other != none {
			return []int{c.writer, d.cells[other].writer}
		}
		if !d.cells[c.from].effective {
			waiting = append(waiting, c.from)
		}
	}
	return nil
}

// chains walks every block in its forced order: writer, its readers, the CAS that replaced it, its readers, and so
// on. Nobody may have ended before somebody earlier in that order began. Returns a block where somebody did.
func (d *decider) chains() int {
	for root := range d.cells {
		if !d.cells[root].effective || d.cells[root].derivesFromCAS {
			continue
		}
		b := block{first: root, minEnd: math.MaxInt64, maxStart: math.MinInt64}
		id := len(d.blocks)
		broken := false
		for place := root; place != none; place = d.cells[place].next {
			c := &d.cells[place]
			c.block = id
			broken = broken || c.end < b.maxStart
			b.maxStart = max(b.maxStart, c.start)
			broken = broken || c.minReadEnd < b.maxStart
			b.maxStart = max(b.maxStart, c.maxReadStart)
			b.minEnd = min(b.minEnd, c.end, c.minReadEnd)
		}
		d.blocks = append(d.blocks, b)
		if broken {
			return id
		}
	}
	return none
}

// cycle finds an effective CAS that no chain reaches: each value of its circle was made from another one of it.
func (d *decider) cycle() []int {
	for place := range d.cells {
		if c := &d.cells[place]; c.effective && c.block == none {
			return []int{c.writer}
		}
	}
	return nil
}

// conflict looks for two blocks that each must come before the other: a must precede b when some operation of a
// ended before some operation of b began.
func (d *decider) conflict() (int, int) {
	var forward []int
	for id := range d.blocks {
		if d.blocks[id].minEnd < d.blocks[id].maxStart {
			forward = append(forward, id)
		}
	}
	slices.SortFunc(forward, func(a, b int) int {
		switch {
		case d.blocks[a].minEnd < d.blocks[b].minEnd:
			return -1
		case d.blocks[a].minEnd > d.blocks[b].minEnd:
			return 1
		default:
			return a - b
		}
	})
	for i := 1; i < len(forward); i++ {
		if d.blocks[forward[i]].minEnd < d.blocks[forward[i-1]].maxStart {
			return forward[i-1], forward[i]
		}
	}
	for id := range d.blocks {
		b := &d.blocks[id]
		if b.minEnd < b.maxStart {
			continue
		}
		after, _ := slices.BinarySearchFunc(forward, b.maxStart, func(candidate int, start int64) int {
			if d.blocks[candidate].minEnd < start {
				return -1
			}
			return 1
		})
		if after > 0 && b.minEnd < d.blocks[forward[after-1]].maxStart {
			return forward[after-1], id
		}
	}
	return none, none
}

// members lists the operations of a block.
func (d *decider) members(id int) []int {
	inside := map[int]bool{}
	for place := d.blocks[id].first; place != none; place = d.cells[place].next {
		inside[place] = true
	}
	return d.operationsOn(inside)
}

// expand adds to some operations all that touch the values that they need, through every CAS.
func (d *decider) expand(culprits []int) []int {
	inside := map[int]bool{}
	var add func(place int)
	add = func(place int) {
		for place != none && !inside[place] {
			inside[place] = true
			place = d.cells[place].from
		}
	}
	for _, i := range culprits {
		if value, observes := d.ops[i].Observes(); observes {
			if place, written := d.places[value]; written {
				add(place)
			}
		}
		if value, writes := d.ops[i].Writes(); writes {
			add(d.places[value])
		}
	}
	found := d.operationsOn(inside)
	for _, i := range culprits {
		if !slices.Contains(found, i) {
			found = append(found, i)
		}
	}
	return found
}

func (d *decider) operationsOn(places map[int]bool) []int {
	var found []int
	for i := range d.ops {
		op := &d.ops[i]
		seen, observes := op.Observes()
		made, writes := op.Writes()
		seenPlace, seenWritten := d.places[seen]
		if observes && seenWritten && places[seenPlace] || writes && places[d.places[made]] {
			found = append(found, i)
		}
	}
	return found
}

// Package numbers decides linearizability of fetch-and-increment, with reads, in O(n log n), exactly, for any number
// of unknown increments. The number is 0 at first; each increment makes the next one and answers it.
//
// Answers settle the order (package settled): reads of 0, the increment that made 1, reads of 1, the increment that
// made 2, …, up to the largest number that anybody was told. A number up to there that nobody says to have made was
// made by an unknown increment. Which one does not matter but for their starts, and the earlier start had better make
// the smaller number: if a linearization has it the other way round, they can change places, since neither ever ends.
// Unknown increments that remain are left out: they may come after everything, or never.
package numbers

import (
	"aftershock/native/internal/history"
	"aftershock/native/internal/settled"
)

type decider struct {
	ops      []history.Op
	told     []int32 // indices of operations that told a number; smallest first, and increments before reads
	unknown  []int32 // indices of unknown increments, by start
	distinct int     // how many numbers increments told
}

// Decide judges the operations of one key. Of an illegal history it also returns operations that contradict each
// other: two of which one had ended before the other, whose number is smaller, began; or one whose number cannot be.
// All increments that made smaller numbers belong to them.
func Decide(ops []history.Op) (history.Outcome, []int) {
	d := &decider{ops: ops}
	if !d.collect() {
		return history.NotApplicable, nil
	}
	if culprits := d.values(); culprits != nil {
		return history.Illegal, culprits
	}
	if culprits := d.groups(); culprits != nil {
		return history.Illegal, culprits
	}
	return history.Legal, nil
}

// collect sorts the operations; false where there are others than reads and increments.
func (d *decider) collect() bool {
	var told, unknown []int32
	for _, f := range []history.F{history.Increment, history.Read} {
		for i := range d.ops {
			switch op := &d.ops[i]; {
			case op.F != history.Increment && op.F != history.Read:
				return false
			case op.F != f || op.F == history.Read && op.Unknown:
			case settled.Certain(op):
				told = append(told, int32(i))
			default:
				unknown = append(unknown, int32(i))
			}
		}
	}
	for _, k := range settled.Sorted(len(told), func(k int) int64 { return d.ops[told[k]].Value }) {
		d.told = append(d.told, told[k])
	}
	for _, k := range settled.Sorted(len(unknown), func(k int) int64 { return d.ops[unknown[k]].Start }) {
		d.unknown = append(d.unknown, unknown[k])
	}
	return true
}

// values looks for numbers that cannot be, were made twice, or are more than all increments make.
func (d *decider) values() []int {
	last := settled.None // the last increment
	for _, at := range d.told {
		i := int(at)
		op := &d.ops[i]
		if op.Value < 0 || op.Value == 0 && op.F == history.Increment {
			return []int{i}
		}
		if op.F == history.Read {
			continue
		}
		if last != settled.None && d.ops[last].Value == op.Value {
			return []int{last, i}
		}
		last = i
		d.distinct++
	}
	if len(d.told) == 0 {
		return nil
	}
	largest := int(d.told[len(d.told)-1])
	if d.ops[largest].Value > int64(d.distinct+len(d.unknown)) {
		return []int{largest}
	}
	return nil
}

// groups walks the order that the numbers have settled.
func (d *decider) groups() []int {
	order := settled.New()
	made := int64(0) // the numbers up to here
	used := 0        // unknown increments that made one
	for next := 0; next < len(d.told); {
		i := int(d.told[next])
		number := d.ops[i].Value
		increments := d.ops[i].F == history.Increment
		for made < number && !(increments && made == number-1) {
			order.Began(int(d.unknown[used]), d.ops[d.unknown[used]].Start)
			used++
			made++
		}
		if increments {
			if by := order.Contradicts(d.ops[i].End); by != settled.None {
				return []int{by, i}
			}
			order.Began(i, d.ops[i].Start)
			made++
			next++
		}
		first := next
		for ; next < len(d.told) && d.ops[d.told[next]].Value == number; next++ {
			if by := order.Contradicts(d.ops[d.told[next]].End); by != settled.None {
				return []int{by, int(d.told[next])}
			}
		}
		for _, read := range d.told[first:next] {
			order.Began(int(read), d.ops[read].Start)
		}
	}
	return nil
}

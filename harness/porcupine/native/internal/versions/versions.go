// Package versions decides linearizability of a register whose changes make ever larger versions, and whose answers
// tell the version that they saw or made, in O(n log n). Values may repeat; deletes and unknown operations are allowed.
//
// The versions give the order of everything that was answered: who made version 3, who saw it, who made version 5,
// … It holds if nobody in it ended before somebody earlier in it began, and if every value fits the one before. Where
// a version has no maker, or a compare-and-set replaced a value that the version before it did not have, unknown
// operations must fill the gap (package file gaps.go); otherwise they are left out, which never hurts.
package versions

import (
	"math"
	"slices"
	"sync"

	"aftershock/native/internal/history"
	"aftershock/native/internal/radix"
)

const none = -1

// level is a version that somebody saw or made.
type level struct {
	version int64
	value   int64
	maker   int32 // index of the operation; none for version 0, and for what only an unknown operation can have made
	first   int32 // its operations: from here to the next level's, in the order by version
	soonest int32 // of its operations but the maker, and of all later ones, the one that ended first
	witness int32 // one of its operations that tells the value; none at version 0 if nobody saw it
}

// decider is the work on one key. It is used again for another, to save memory.
type decider struct {
	ops     []history.Op
	version []int64 // of every operation, or NoVersion
	told    []int32 // operations that have a version, by version
	levels  []level
	makers  map[int64]*maker
	needed  []*maker // those with needs
	ignored bool     // something answered was not taken into account, so that nothing can be said to be legal

	indices []int32
	keys    []int64
	sorter  radix.Sorter
}

var idle = sync.Pool{New: func() any { return new(decider) }}

// Decide judges the operations of one key. For an illegal history it also returns the indices of operations that,
// with all who wrote the values that they need, contain a contradiction. It is not applicable where an answer without
// a version leaves open what it saw or made, and where several unknown operations could have made a value of which
// one is a compare-and-set.
func Decide(ops []history.Op) (history.Outcome, []int) {
	d := idle.Get().(*decider)
	defer idle.Put(d)
	d.ops, d.ignored = ops, false
	defer func() { d.ops, d.makers, d.needed = nil, nil, nil }()
	d.resolve()
	d.order()
	culprits := d.levelUp()
	if culprits == nil {
		culprits = d.times()
	}
	if culprits == nil {
		culprits = d.gaps()
	}
	switch {
	case culprits != nil:
		slices.Sort(culprits)
		return history.Illegal, slices.Compact(culprits)
	case d.ignored:
		return history.NotApplicable, nil
	default:
		return history.Legal, nil
	}
}

// order sorts the operations that have a version by it.
func (d *decider) order() {
	d.indices, d.keys, d.told = d.indices[:0], d.keys[:0], d.told[:0]
	for i, version := range d.version {
		if version != history.NoVersion {
			d.indices = append(d.indices, int32(i))
			d.keys = append(d.keys, version)
		}
	}
	for _, at := range d.sorter.Order(d.keys) {
		d.told = append(d.told, d.indices[at])
	}
}

// levelUp makes the levels: what value each version has, and who made it. Culprits told the same version and cannot
// both be right.
func (d *decider) levelUp() []int {
	d.levels = append(d.levels[:0], level{value: history.Absent, maker: none, witness: none})
	all := d.told
	d.told = d.told[:0]
	for end := 0; end < len(all); {
		first, version := end, d.version[all[end]]
		for end < len(all) && d.version[all[end]] == version {
			end++
		}
		if version > 0 {
			d.levels = append(d.levels, level{version: version, maker: none, witness: none, first: int32(len(d.told))})
		}
		l := &d.levels[len(d.levels)-1]
		if culprits := d.agree(l, all[first:end]); culprits != nil {
			return culprits
		}
		if l.version > 0 && l.witness == none {
			d.ignored = true // only UNEQUAL told it: nobody knows the value
			d.levels = d.levels[:len(d.levels)-1]
			continue
		}
		d.told = append(d.told, all[first:end]...)
	}
	return nil
}

// agree finds the value and the maker of a level. A delete of nothing may leave the version as it is, so of several
// that told one version only one made it: the first to begin, or an unknown delete if that began too late for somebody.
func (d *decider) agree(l *level, told []int32) []int {
	for _, i := range told {
		op := &d.ops[i]
		value, writes := op.Writes()
		if op.F == history.Unequal {
			continue
		}
		if op.F == history.Read {
			value = op.Value
		}
		if (l.version == 0 || l.witness != none) && value != l.value {
			return named(i, l.witness)
		}
		l.value = value
		switch {
		case writes && op.F != history.Delete:
			if l.maker != none || l.version == 0 {
				return named(i, l.maker)
			}
			l.maker, l.witness = i, i
		case writes && l.version > 0 && (l.maker == none || op.Start < d.ops[l.maker].Start):
			l.maker, l.witness = i, i
		case l.witness == none:
			l.witness = i
		}
	}
	deleted := l.maker != none && d.ops[l.maker].F == history.Delete
	for _, i := range told {
		op := &d.ops[i]
		if op.F == history.Unequal && (l.version == 0 || l.witness != none) && op.Expected == l.value {
			return named(i, l.witness)
		}
		if deleted && op.End < d.ops[l.witness].Start {
			l.maker = none
		}
	}
	return nil
}

// operations are those that told a level's version, its maker among them.
func (d *decider) operations(at int) []int32 {
	if at+1 < len(d.levels) {
		return d.told[d.levels[at].first:d.levels[at+1].first]
	}
	return d.told[d.levels[at].first:]
}

// times checks that in the order by version nobody ended before somebody earlier in it began; culprits are the two.
// It also notes for every level who ends first from then on.
func (d *decider) times() []int {
	latest, begun := int32(none), int64(math.MinInt64)
	begin := func(i int32) {
		if d.ops[i].Start > begun {
			latest, begun = i, d.ops[i].Start
		}
	}
	for at := range d.levels {
		maker := d.levels[at].maker
		if maker != none {
			if d.ops[maker].End < begun {
				return named(maker, latest)
			}
			begin(maker)
		}
		for _, i := range d.operations(at) {
			if i != maker && d.ops[i].End < begun {
				return named(i, latest)
			}
		}
		for _, i := range d.operations(at) {
			begin(i)
		}
	}
	soonest := int32(none)
	for at := len(d.levels) - 1; at >= 0; at-- {
		l := &d.levels[at]
		for _, i := range d.operations(at) {
			if i != l.maker {
				soonest = d.sooner(i, soonest)
			}
		}
		l.soonest = soonest
		if l.maker != none {
			soonest = d.sooner(l.maker, soonest)
		}
	}
	return nil
}

// sooner returns which of two operations, of which one may be none, ended first.
func (d *decider) sooner(a, b int32) int32 {
	if b == none || a != none && d.ops[a].End < d.ops[b].End {
		return a
	}
	return b
}

func named(indices ...int32) []int {
	var found []int
	for _, i := range indices {
		if i != none {
			found = append(found, int(i))
		}
	}
	return found
}

package shrink

import (
	"slices"

	"aftershock/native/internal/history"
)

// What is left of a collection when an element is taken out of every operation is a history of the collection without
// it. So all operations on an element go together, and it goes from all whole reads.

// set: an add may go alone where nobody saw its element, or where another add of it could have come as early.
type set struct{}

// list: an element goes with its place in all reads.
type list struct{}

func (set) keep(c Case, marked []bool) []Case  { return keepElements(c, marked, history.Add) }
func (list) keep(c Case, marked []bool) []Case { return keepElements(c, marked, history.Append) }

func (list) drop(c Case, gone []bool) Case {
	elements := map[int64]bool{}
	for i := range c.Ops {
		if gone[i] && c.Ops[i].F == history.Append {
			elements[c.Ops[i].Value] = true
		}
	}
	return withoutElements(c, gone, elements)
}

func (set) drop(c Case, gone []bool) Case {
	// Of every element of which an add goes: when the adds of it could come at the earliest, and those that stay.
	type starts struct{ all, kept int64 }
	affected := map[int64]*starts{}
	for i := range c.Ops {
		if gone[i] && c.Ops[i].F == history.Add {
			affected[c.Ops[i].Value] = &starts{all: history.Open, kept: history.Open}
		}
	}
	seen := map[int64]bool{}
	for i := range c.Ops {
		op := &c.Ops[i]
		switch {
		case op.F == history.Add:
			if its := affected[op.Value]; its != nil {
				its.all = min(its.all, op.Start)
				if !gone[i] {
					its.kept = min(its.kept, op.Start)
				}
			}
		case gone[i]:
		case op.F == history.Contains && op.Expected != 0:
			seen[op.Value] = true
		case op.F == history.ReadAll:
			for _, element := range op.Items {
				if affected[element] != nil {
					seen[element] = true
				}
			}
		}
	}
	elements := map[int64]bool{}
	for element, its := range affected {
		if seen[element] && its.kept > its.all {
			elements[element] = true
		}
	}
	return withoutElements(c, gone, elements)
}

// withoutElements takes out operations, and some elements altogether.
func withoutElements(c Case, gone []bool, elements map[int64]bool) Case {
	kept := make([]history.Op, 0, len(c.Ops))
	for i, op := range c.Ops {
		if gone[i] || op.F != history.ReadAll && elements[op.Value] {
			continue
		}
		if op.F == history.ReadAll && len(elements) > 0 {
			op.Items = slices.DeleteFunc(slices.Clone(op.Items), func(e int64) bool { return elements[e] })
		}
		kept = append(kept, op)
	}
	return tidy(c.with(kept))
}

// keepElements tries the elements of the marked operations, with those that tell two marked reads apart, and then all.
func keepElements(c Case, marked []bool, adds history.F) []Case {
	elements := map[int64]bool{}
	var reads []*history.Op
	for i := range c.Ops {
		switch {
		case !marked[i]:
		case c.Ops[i].F == history.ReadAll:
			reads = append(reads, &c.Ops[i])
		default:
			elements[c.Ops[i].Value] = true
		}
	}
	few := withTelling(c, reads, elements, adds)
	cases := []Case{onlyElements(c, marked, adds, func(e int64) bool { return few[e] })}
	if len(reads) > 0 {
		cases = append(cases, onlyElements(c, marked, adds, func(int64) bool { return true }))
	}
	return cases
}

func onlyElements(c Case, marked []bool, adds history.F, wanted func(int64) bool) Case {
	kept := make([]history.Op, 0, 16)
	for i, op := range c.Ops {
		switch {
		case op.F == adds && wanted(op.Value):
		case op.F == history.Contains && marked[i] && wanted(op.Value):
		case op.F == history.ReadAll && marked[i]:
			op.Items = slices.DeleteFunc(slices.Clone(op.Items), func(e int64) bool { return !wanted(e) })
		default:
			continue
		}
		kept = append(kept, op)
	}
	return c.with(kept)
}

// mostReads bounds how many reads are compared with each other.
const mostReads = 8

// withTelling adds elements that a read has and another one has not, or not at that place, that it has twice, or that
// nobody put there.
func withTelling(c Case, reads []*history.Op, elements map[int64]bool, adds history.F) map[int64]bool {
	if len(reads) == 0 {
		return elements
	}
	put := map[int64]bool{}
	for i := range c.Ops {
		if c.Ops[i].F == adds {
			put[c.Ops[i].Value] = true
		}
	}
	reads = reads[:min(len(reads), mostReads)]
	for i, read := range reads {
		within := make(map[int64]bool, len(read.Items))
		for _, element := range read.Items {
			if !put[element] || within[element] {
				elements[element] = true
			}
			within[element] = true
		}
		for j, other := range reads {
			if i == j {
				continue
			}
			if at := slices.IndexFunc(other.Items, func(e int64) bool { return !within[e] }); at >= 0 {
				elements[other.Items[at]] = true
			}
			if adds != history.Append {
				continue
			}
			for k := range min(len(read.Items), len(other.Items)) {
				if read.Items[k] != other.Items[k] {
					elements[read.Items[k]], elements[other.Items[k]] = true, true
					break
				}
			}
		}
	}
	return elements
}

package shrink

import (
	"cmp"
	"slices"

	"aftershock/native/internal/history"
)

// queue: all operations on an element go together; a dequeue that found nothing goes alone. A dequeue of which nobody
// knows what it took stays for as long as there is an element that it can have taken.
type queue struct{}

func (q queue) keep(c Case, marked []bool) []Case {
	elements := map[int64]bool{}
	for i := range c.Ops {
		if marked[i] && !unknownDequeue(&c.Ops[i]) {
			elements[c.Ops[i].Value] = true
		}
	}
	kept := make([]history.Op, 0, 16)
	for i, op := range c.Ops {
		if unknownDequeue(&op) || marked[i] || op.Value != history.Absent && elements[op.Value] {
			kept = append(kept, op)
		}
	}
	return []Case{tidy(fewerTakers(c.with(kept)))}
}

func (q queue) drop(c Case, gone []bool) Case {
	elements := map[int64]bool{}
	for i := range c.Ops {
		if gone[i] && !unknownDequeue(&c.Ops[i]) && c.Ops[i].Value != history.Absent {
			elements[c.Ops[i].Value] = true
		}
	}
	kept := make([]history.Op, 0, len(c.Ops))
	for i, op := range c.Ops {
		if !unknownDequeue(&op) && (gone[i] || elements[op.Value]) {
			continue
		}
		kept = append(kept, op)
	}
	return tidy(fewerTakers(c.with(kept)))
}

func unknownDequeue(op *history.Op) bool { return op.F == history.Dequeue && op.Unknown }

// fewerTakers keeps as many unknown dequeues as there are elements without a known one, those that began first: any
// other one could be replaced by one of them.
func fewerTakers(c Case) Case {
	taken := map[int64]bool{}
	for i := range c.Ops {
		if c.Ops[i].F == history.Dequeue && !c.Ops[i].Unknown {
			taken[c.Ops[i].Value] = true
		}
	}
	left := 0
	var takers []int
	seen := map[int64]int{}
	for i := range c.Ops {
		switch op := &c.Ops[i]; {
		case op.F == history.Enqueue:
			if seen[op.Value]++; !taken[op.Value] || seen[op.Value] > 1 {
				left++ // of an element that was put in twice, one may be left whoever took the other
			}
		case unknownDequeue(op):
			takers = append(takers, i)
		}
	}
	if len(takers) <= left {
		return c
	}
	slices.SortStableFunc(takers, func(a, b int) int { return cmp.Compare(c.Ops[a].Start, c.Ops[b].Start) })
	gone := make([]bool, len(c.Ops))
	for _, i := range takers[left:] {
		gone[i] = true
	}
	return c.omit(gone)
}

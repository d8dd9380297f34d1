package shrink

import (
	"cmp"
	"slices"

	"aftershock/native/internal/history"
)

// fewTold is a number of operations up to which an explanation from the very first one on is the better one.
const fewTold = 6

// mostAnchors bounds how many reads are tried.
const mostAnchors = 48

// anchor starts the history with a read whose answer told the whole state, the latest that will do: then nothing that
// ended before it matters.
func anchor(c Case, illegal Illegal) Case {
	if len(c.Ops) <= fewTold {
		return c
	}
	var reads []int
	for i := range c.Ops {
		op := &c.Ops[i]
		if op.F == history.Read || op.F == history.ReadAll && namesEach(op.Items, accountsOf(c.Initial)) {
			reads = append(reads, i)
		}
	}
	slices.SortFunc(reads, func(a, b int) int { return cmp.Compare(c.Ops[b].Start, c.Ops[a].Start) })
	for tried, at := 0, 0; at < len(reads) && tried < mostAnchors; tried++ {
		if later := from(c, reads[at]); len(later.Ops) > 1 && len(later.Ops) < len(c.Ops) && illegal(later) {
			return later
		}
		at += 1 + tried/8 // ever larger steps, so that early reads are reached too
	}
	return c
}

// from is what a read and all that may have happened after it say: whatever was concurrent with it is open, as it may
// have happened before.
func from(c Case, read int) Case {
	first := c.Ops[read]
	later := Case{Initial: c.Initial, Base: c.Base, Merged: c.Merged, Anchor: &first.Row}
	for i, op := range c.Ops {
		switch {
		case i == read:
		case op.End < first.Start, op.F.Observes() && op.Start <= first.End:
			continue
		case op.Start <= first.End:
			open(&op)
		}
		later.Ops = append(later.Ops, op)
	}
	if first.F == history.ReadAll {
		later.Initial = first.Items
		return tidy(later)
	}
	return tidy(settle(later.lessBy(first.Value)))
}

// anchored tells whether the case starts with this operation, so that it cannot go.
func (c Case) anchored(op *history.Op) bool { return c.Anchor != nil && *c.Anchor == op.Row }

package shrink

import (
	"slices"
	"sort"

	"aftershock/native/internal/history"
)

// Until is the history as it was known when `at` was over: what had not ended by then is open, what only looked and
// had not ended is left out, and so is what had not begun. A legal history stays legal: cut its linearization there.
func Until(ops []history.Op, at int64) []history.Op {
	known := make([]history.Op, 0, len(ops))
	for i := range ops {
		op := ops[i]
		if op.Start > at || op.End > at && op.F.Observes() {
			continue
		}
		if op.End > at {
			open(&op)
		}
		known = append(known, op)
	}
	return known
}

// shortest cuts an illegal history after the first answer that nothing can explain any more.
func shortest(r rules, c Case, illegal Illegal) Case {
	ends := Ends(c.Ops)
	first := sort.Search(len(ends)-1, func(i int) bool { return illegal(c.with(Until(c.Ops, ends[i]))) })
	if first < 0 {
		return c
	}
	cut := c.with(Until(c.Ops, ends[first]))
	if registers, yes := r.(register); yes {
		cut = registers.completed(c, cut)
	} else {
		cut = tidy(cut)
	}
	if size(cut) < size(c) && illegal(cut) {
		return cut
	}
	return c
}

// Ends returns when answers came, ascending, each point in time once.
func Ends(ops []history.Op) []int64 {
	ends := make([]int64, 0, len(ops))
	for i := range ops {
		if !ops[i].Unknown {
			ends = append(ends, ops[i].End)
		}
	}
	slices.Sort(ends)
	return slices.Compact(ends)
}

// Breaks returns the end of the first operation of a history whose answer nothing explains any more: the history as
// it was known then is illegal, and just before it was not. `least` is an illegal part of it, which bounds the time.
func Breaks(whole, least Case, illegal Illegal) (end int64, found bool) {
	ends := Ends(whole.Ops)
	high := len(ends) - 1
	if high < 0 {
		return 0, false
	}
	if parts := Ends(least.Ops); len(parts) > 0 {
		broken := func(i int) bool { return illegal(least.with(Until(least.Ops, parts[i]))) }
		if i := sort.Search(len(parts), broken); i < len(parts) {
			high, _ = slices.BinarySearch(ends, parts[i])
		}
		// That is the proof for registers, sets, lists and locks. Others may lack what was left out because of an
		// answer that nobody had by then.
		if answersMatter(least) && !illegal(whole.with(Until(whole.Ops, ends[high]))) {
			high = len(ends) - 1
		}
	}
	// The time that the counterexample shows is usually the one: first look just before it, then everywhere.
	explained := func(i int) bool { return i < 0 || !illegal(whole.with(Until(whole.Ops, ends[i]))) }
	if explained(high - 1) {
		return ends[high], true
	}
	return ends[sort.Search(high-1, func(i int) bool { return !explained(i) })], true
}

// answersMatter tells whether what may be left out of a case depends on what changes were answered.
func answersMatter(c Case) bool {
	return slices.ContainsFunc(c.Ops, func(op history.Op) bool {
		return op.F == history.Increment || op.F == history.Transfer || op.F == history.Dequeue
	}) || c.Base != 0 || c.Anchor != nil
}

package usermodel

import (
	"cmp"
	"slices"
	"time"

	"aftershock/native/internal/history"
)

// Counterexample is a few operations of a key whose answers no order explains from the state `From` on, whether or
// not the `Maybe` ones took effect at any time from their start on. `Before` answered operations were over by then.
// `Last` is the one that was answered last: without it nothing is wrong. Minimal is false when time ran out before
// nothing more could be left out.
type Counterexample struct {
	From     int32   `json:"start"`
	Before   int     `json:"before"`
	Answered int     `json:"answered"` // up to Last, that included
	Rows     []int32 `json:"rows"`
	Maybe    []int32 `json:"maybe"`
	Last     int32   `json:"last"`
	Minimal  bool    `json:"minimal"`
}

// trialBudget bounds one search while shrinking: a step whose trial takes longer is not taken.
const trialBudget = 300 * time.Millisecond

// mostAtOnce bounds how many answers are forgotten in one trial: a search is exponential in them.
const mostAtOnce = 8

type shrinker struct {
	*session
	until   time.Time
	from    int32 // state from which the search starts
	cut     bool
	dropped map[int32]bool // groups of operations that were left out, as they only seem to observe
}

// shrink makes an illegal history small by steps that never turn a legal one into an illegal one:
//
//   - What began after the first answer that nothing explains is left out, and what was not answered by then is taken
//     as unknown: what is legal stays so up to any point in time.
//   - An answer is forgotten: the operation may then have happened or not, at any time from its start on.
//   - An operation whose kind was never seen to change a state is left out.
//   - Where nothing was going on for a moment, what was before is replaced by all states that it can have left.
func (s *session) shrink(all []operation, until time.Time) *Counterexample {
	r := &shrinker{session: s, until: until, dropped: map[int32]bool{}}
	found := r.smallest(all)
	for group := range r.dropped {
		if !r.observes(group) { // seen to change a state since: what was left out may matter after all
			return (&shrinker{session: s, until: until}).smallest(all)
		}
	}
	return found
}

func (r *shrinker) smallest(all []operation) *Counterexample {
	ops, last := r.prefix(all)
	answered := len(strict(ops))
	ops = r.afterPause(ops)
	found := &Counterexample{
		From: r.from, Before: answered - len(strict(ops)), Answered: answered,
		Rows: []int32{}, Maybe: []int32{}, Last: last,
	}
	cutBefore := r.cut
	for before := -1; before != len(strict(ops)); {
		before = len(strict(ops))
		r.cut = cutBefore // only the last round tells whether nothing more can be forgotten
		ops = r.forget(ops, last)
	}
	slices.SortStableFunc(ops, func(a, b operation) int { return cmp.Compare(a.start, b.start) })
	for i := range ops {
		switch {
		case !ops[i].unknown():
			found.Rows = append(found.Rows, ops[i].row)
		case !r.observer(&ops[i]):
			found.Maybe = append(found.Maybe, ops[i].row)
		}
	}
	found.Minimal = !r.cut
	return found
}

// observer tells whether an operation may be left out, because its kind was never seen to change a state.
func (r *shrinker) observer(op *operation) bool {
	if r.dropped == nil || !r.observes(op.group) {
		return false
	}
	r.dropped[op.group] = true
	return true
}

func (r *shrinker) illegal(ops []operation) bool {
	left := min(time.Until(r.until), trialBudget)
	legal, decided := r.decide(ops, left, r.from)
	r.cut = r.cut || !decided
	return decided && !legal
}

// prefix returns the shortest illegal one, and the row that was answered last in it.
func (r *shrinker) prefix(all []operation) ([]operation, int32) {
	var answered []operation
	for _, op := range all {
		if !op.unknown() {
			answered = append(answered, op)
		}
	}
	slices.SortStableFunc(answered, func(a, b operation) int { return cmp.Compare(a.end, b.end) })
	// The smallest count of answers that is illegal; that all of them are is known.
	first, _ := slices.BinarySearchFunc(answered[:len(answered)-1], true, func(op operation, _ bool) int {
		if r.illegal(until(all, op.end)) {
			return 1
		}
		return -1
	})
	ops := until(all, answered[first].end)
	// Of those answered at the same time, the first that cannot do without its answer is the last straw.
	for i := range ops {
		if ops[i].end == answered[first].end {
			fewer := maybe(ops, []int{i})
			if !r.illegal(fewer) {
				return ops, ops[i].row
			}
			ops = fewer
		}
	}
	return until(all, answered[first].end), answered[first].row // time ran out
}

// until is the history as it was known right after a point in time.
func until(all []operation, end int64) []operation {
	var ops []operation
	for _, op := range all {
		if op.start > end {
			continue
		}
		if op.end > end {
			op.class, op.end = op.maybe, history.Open
		}
		ops = append(ops, op)
	}
	return ops
}

// forget takes away as many answers as it can, in ever smaller groups.
func (r *shrinker) forget(ops []operation, last int32) []operation {
	for length := mostAtOnce; length > 0; length /= 2 {
		for from := 0; ; from += length {
			candidates := slices.DeleteFunc(strict(ops), func(i int) bool { return ops[i].row == last })
			if from >= len(candidates) || time.Now().After(r.until) {
				break
			}
			fewer := r.without(ops, candidates[from:min(from+length, len(candidates))])
			cut := r.cut
			if r.illegal(fewer) {
				ops = fewer
				from -= length
			}
			if length > 1 {
				r.cut = cut // they are tried one by one, too
			}
		}
	}
	r.cut = r.cut || time.Now().After(r.until)
	return ops
}

// without leaves out the chosen operations that only observe, and forgets the answers of the others.
func (r *shrinker) without(ops []operation, chosen []int) []operation {
	fewer := maybe(ops, chosen)
	for _, i := range slices.Backward(chosen) {
		if r.observer(&fewer[i]) {
			fewer = slices.Delete(fewer, i, i+1)
		}
	}
	return fewer
}

func maybe(ops []operation, chosen []int) []operation {
	changed := slices.Clone(ops)
	for _, i := range chosen {
		changed[i].class, changed[i].end = changed[i].maybe, history.Open
	}
	return changed
}

// strict are the indices of those whose answers count.
func strict(ops []operation) []int {
	var found []int
	for i := range ops {
		if !ops[i].unknown() {
			found = append(found, i)
		}
	}
	return found
}

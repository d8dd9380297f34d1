package run

import (
	"cmp"
	"slices"
	"time"

	"aftershock/native/internal/decide"
	"aftershock/native/internal/history"
	"aftershock/native/internal/shrink"
)

// Counterexample lists rows of the input, by start, and what was done to them so that they stand for the whole (see
// package shrink). Minimal is false when time ran out before nothing more could be left out.
type Counterexample struct {
	Rows     []int32 `json:"rows"`
	Weakened []int32 `json:"weakened"`           // rows: of these compare-and-sets only the written value matters
	Opened   []int32 `json:"opened,omitempty"`   // rows: their answers do not count; they may have happened or not
	Elements []int64 `json:"elements,omitempty"` // set, list: whole reads are looked at for these only
	Base     int64   `json:"base,omitempty"`     // counter: increments that are in every read and were left out
	Numbers  []int64 `json:"numbers,omitempty"`  // fetch-and-increment: each row's, those that were left out not counted
	Merged   []int64 `json:"merged,omitempty"`   // bank: account and the one that it was counted with, in turn
	Anchor   *int32  `json:"anchor,omitempty"`   // counter, bank: row of a read from whose answer on the others are judged
	Minimal  bool    `json:"minimal"`
}

// Prefix is how far a key that is not linearizable can be explained.
type Prefix struct {
	Operations int   `json:"operations"` // that had been answered by then
	EndNS      int64 `json:"end_ns"`     // the first answer that nothing explains any more
}

// shrinkBudget bounds the time for one counterexample; the verdict stands without it.
const shrinkBudget = 10 * time.Second

// mostRows bounds a counterexample that could not be minimized in time: more than that explains nothing.
const mostRows = 40

// trialBudget bounds one search while shrinking: a step whose trial takes longer is not taken.
const trialBudget = time.Second

// failure waits for its counterexample until every key had its turn.
type failure struct {
	line     Line
	ops      []history.Op
	culprits []int
}

// shrinkAll reports a counterexample for every failure found so far, and how far each key can be explained, in at
// most half the time left.
func (r *runner) shrinkAll() {
	end := time.Now().Add(time.Until(r.deadline) / 2)
	least := make([]shrink.Case, len(r.failures))
	places := make([]int, len(r.failures))
	for i := range places {
		places[i] = i
	}
	workers := r.request.Workers
	fair := func(waiting int) time.Time {
		left := time.Until(end) * time.Duration(workers) / time.Duration(max(waiting, workers))
		return time.Now().Add(min(left, shrinkBudget))
	}
	eachOf(places, workers, func(i, waiting int) {
		found := &r.failures[i]
		if until := fair(waiting); time.Now().Before(until) {
			found.line.Counterexample, least[i] = r.minimize(*found, until)
		}
		if found.line.Counterexample != nil {
			r.report(found.line)
		}
	})
	eachOf(places, workers, func(i, waiting int) {
		found := &r.failures[i]
		if until := fair(waiting); time.Now().Before(until) {
			found.line.Prefix = r.prefix(*found, least[i], until)
		}
		if found.line.Prefix != nil {
			r.report(found.line)
		}
	})
	r.failures = nil
}

// trial judges with whatever engine is fastest: the counterexample is judged again by the binding anyway. `cut`
// becomes true when a trial was not decided in time.
func (r *runner) trial(end time.Time, cut *bool) shrink.Illegal {
	return func(c shrink.Case) bool {
		left := min(time.Until(end), trialBudget)
		if left <= 0 {
			*cut = true
			return false
		}
		judge := decide.Judge{Model: r.request.Model, Engine: decide.Auto, Initial: c.Initial}
		result := judge.Any(c.Ops, left)
		*cut = *cut || result.Verdict == decide.Unknown
		return result.Verdict == decide.Fail
	}
}

func (r *runner) minimize(found failure, end time.Time) (*Counterexample, shrink.Case) {
	cut := false
	rest := shrink.Minimize(found.ops, r.request.Model, r.request.Initial, found.culprits, r.trial(end, &cut))
	if len(rest.Ops) > mostRows && cut {
		return nil, rest
	}
	slices.SortFunc(rest.Ops, func(a, b history.Op) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), cmp.Compare(a.Row, b.Row))
	})
	return r.told(found.ops, rest, !cut), rest
}

// told puts a case into words of rows.
func (r *runner) told(all []history.Op, c shrink.Case, minimal bool) *Counterexample {
	shown := &Counterexample{Rows: []int32{}, Weakened: []int32{}, Base: c.Base, Merged: c.Merged, Minimal: minimal}
	shown.Anchor = c.Anchor
	given := make(map[int32]bool, len(c.Ops)) // whether each row was unknown from the first
	for i := range c.Ops {
		given[c.Ops[i].Row] = false
	}
	for i := range all {
		if _, here := given[all[i].Row]; here {
			given[all[i].Row] = all[i].Unknown
		}
	}
	for i := range c.Ops {
		op := &c.Ops[i]
		shown.Rows = append(shown.Rows, op.Row)
		if op.Weakened {
			shown.Weakened = append(shown.Weakened, op.Row)
		}
		if op.Unknown && !given[op.Row] {
			shown.Opened = append(shown.Opened, op.Row)
		}
		switch r.request.Model {
		case history.FetchAndIncrement:
			shown.Numbers = append(shown.Numbers, op.Value)
		case history.Set, history.ListAppend:
			if op.F == history.ReadAll {
				shown.Elements = append(shown.Elements, op.Items...)
			} else {
				shown.Elements = append(shown.Elements, op.Value)
			}
		}
	}
	slices.Sort(shown.Elements)
	shown.Elements = slices.Compact(shown.Elements)
	return shown
}

// prefix finds the first answer that nothing explains any more. The counterexample shows one that nothing explains,
// usually that one; if not, the engines bisect what came before it.
func (r *runner) prefix(found failure, least shrink.Case, end time.Time) *Prefix {
	cut := false
	illegal := r.trial(end, &cut)
	whole := shrink.Case{Ops: found.ops, Initial: r.request.Initial}
	first, sure := shrink.Breaks(whole, least, illegal)
	if cut || !sure {
		return nil
	}
	before := 0
	for i := range found.ops {
		if op := &found.ops[i]; !op.Unknown && op.End < first {
			before++
		}
	}
	return &Prefix{Operations: before, EndNS: first}
}

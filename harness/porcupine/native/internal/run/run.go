// Package run judges all keys of a request within its budget and reports each as soon as it is decided.
package run

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"aftershock/native/internal/decide"
	"aftershock/native/internal/history"
	"aftershock/native/internal/shrink"
)

// Line is what is said of one key. A key that fails is reported twice: as soon as it is known, and again with its
// minimal counterexample, so that the verdict survives whatever happens in between.
type Line struct {
	Key            int64           `json:"key"`
	Verdict        decide.Verdict  `json:"verdict"`
	Engine         string          `json:"engine"`
	Reason         string          `json:"reason,omitempty"`
	Counterexample *Counterexample `json:"counterexample,omitempty"`
}

// Counterexample lists rows of the input. Of the weakened ones, compare-and-sets, only the written value matters.
// Minimal is false when time ran out before nothing more could be left out.
type Counterexample struct {
	Rows     []int32 `json:"rows"`
	Weakened []int32 `json:"weakened"`
	Minimal  bool    `json:"minimal"`
}

// shrinkBudget bounds the time for one counterexample; the verdict stands without it.
const shrinkBudget = 10 * time.Second

// mostRows bounds a counterexample that could not be minimized in time: more than that explains nothing.
const mostRows = 40

// leastSearch is given to every search: less would be lost to the noise of a busy machine.
const leastSearch = 100 * time.Millisecond

// trialBudget bounds one search while shrinking: a step whose trial takes longer is not taken.
const trialBudget = time.Second

// All judges every key and calls `report`, from several goroutines, for each that was decided or given up.
func All(request *history.Request, keys []history.Key, deadline time.Time, report func(Line)) {
	r := &runner{request: request, deadline: deadline, report: report}
	// Small keys first: when time runs out, the largest number of keys is decided.
	slices.SortStableFunc(keys, func(a, b history.Key) int { return cmp.Compare(len(a.Ops), len(b.Ops)) })
	judge := decide.Judge{Model: request.Model, Engine: request.Engine}
	hard := r.quick(judge, keys)
	r.shrinkAll()
	r.search(judge, hard)
}

// runner holds what all goroutines share. Failures wait for their counterexamples until every key had its turn.
type runner struct {
	request  *history.Request
	deadline time.Time
	report   func(Line)

	lock     sync.Mutex
	failures []failure
}

type failure struct {
	line     Line
	ops      []history.Op
	culprits []int
}

// quick judges the keys that need no search, and returns the others.
func (r *runner) quick(judge decide.Judge, keys []history.Key) []history.Key {
	var hard []history.Key
	eachOf(keys, r.request.Workers, func(key history.Key, _ int) {
		if time.Now().After(r.deadline) {
			return
		}
		ops := history.Effective(key.Ops)
		result, done := judge.Quick(ops)
		if done {
			r.conclude(key.ID, ops, result)
			return
		}
		r.lock.Lock()
		defer r.lock.Unlock()
		hard = append(hard, history.Key{ID: key.ID, Ops: ops})
	})
	slices.SortFunc(hard, func(a, b history.Key) int {
		return cmp.Or(cmp.Compare(len(a.Ops), len(b.Ops)), cmp.Compare(a.ID, b.ID))
	})
	return hard
}

// search judges keys by search, in rounds, so that one hopeless key does not keep the others waiting: each gets a
// fair share of half the time left, and those that did not end get more in the next round.
func (r *runner) search(judge decide.Judge, keys []history.Key) {
	workers := r.request.Workers
	for round := 1; len(keys) > 0 && time.Until(r.deadline) > 0; round++ {
		var undecided []history.Key
		few := round > 1 && len(keys) <= workers
		eachOf(keys, workers, func(key history.Key, waiting int) {
			left := time.Until(r.deadline)
			share := left
			if !few {
				share = left / 2 * time.Duration(workers) / time.Duration(max(waiting, workers))
				share = min(max(share, leastSearch), left)
			}
			result := judge.Slow(key.Ops, share)
			if result.Verdict == decide.Unknown {
				r.lock.Lock()
				defer r.lock.Unlock()
				undecided = append(undecided, key)
				return
			}
			r.conclude(key.ID, key.Ops, result)
		})
		r.shrinkAll()
		keys = undecided
	}
	for _, key := range keys {
		reason := "the search did not end within its time"
		r.report(Line{Key: key.ID, Verdict: decide.Unknown, Engine: decide.Porcupine, Reason: reason})
	}
}

// conclude reports a verdict and remembers a failure.
func (r *runner) conclude(id int64, ops []history.Op, result decide.Result) {
	line := Line{Key: id, Verdict: result.Verdict, Engine: result.Engine, Reason: result.Reason}
	r.report(line)
	if result.Verdict == decide.Fail {
		r.lock.Lock()
		defer r.lock.Unlock()
		r.failures = append(r.failures, failure{line: line, ops: ops, culprits: result.Culprits})
	}
}

// shrinkAll reports a counterexample for every failure found so far, in at most half the time left.
func (r *runner) shrinkAll() {
	end := time.Now().Add(time.Until(r.deadline) / 2)
	eachOf(r.failures, r.request.Workers, func(found failure, waiting int) {
		left := time.Until(end) * time.Duration(r.request.Workers) / time.Duration(max(waiting, r.request.Workers))
		if left > 0 {
			found.line.Counterexample = r.minimize(found, time.Now().Add(min(left, shrinkBudget)))
		}
		if found.line.Counterexample != nil {
			r.report(found.line)
		}
	})
	r.failures = nil
}

// minimize tries with whatever engine is fastest: the counterexample is judged again by the binding anyway.
func (r *runner) minimize(found failure, end time.Time) *Counterexample {
	judge := decide.Judge{Model: r.request.Model, Engine: decide.Auto}
	cut := false
	rest := shrink.Minimize(found.ops, found.culprits, func(fewer []history.Op) bool {
		left := min(time.Until(end), trialBudget)
		if left <= 0 {
			cut = true
			return false
		}
		trial := judge.Any(fewer, left)
		cut = cut || trial.Verdict == decide.Unknown
		return trial.Verdict == decide.Fail
	})
	if cut && len(rest) > mostRows {
		return nil
	}
	counterexample := &Counterexample{Rows: []int32{}, Weakened: []int32{}, Minimal: !cut}
	slices.SortFunc(rest, func(a, b history.Op) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), cmp.Compare(a.Row, b.Row))
	})
	for i := range rest {
		counterexample.Rows = append(counterexample.Rows, rest[i].Row)
		if rest[i].Weakened {
			counterexample.Weakened = append(counterexample.Weakened, rest[i].Row)
		}
	}
	return counterexample
}

// eachOf calls `do` for every item, on several goroutines, in order; `waiting` counts this item and those after it.
func eachOf[T any](items []T, workers int, do func(item T, waiting int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(items) {
					return
				}
				do(items[i], len(items)-i)
			}
		}()
	}
	all.Wait()
}

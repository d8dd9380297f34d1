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
)

// Line is what is said of one key. A key that fails is reported twice: as soon as it is known, and again with its
// minimal counterexample, so that the verdict survives whatever happens in between.
type Line struct {
	Key            int64           `json:"key"`
	Verdict        decide.Verdict  `json:"verdict"`
	Engine         string          `json:"engine"`
	Reason         string          `json:"reason,omitempty"`
	Counterexample *Counterexample `json:"counterexample,omitempty"`
	Prefix         *Prefix         `json:"prefix,omitempty"`
}

// leastSearch is given to every search: less would be lost to the noise of a busy machine.
const leastSearch = 100 * time.Millisecond

// All judges every key and calls `report`, from several goroutines, for each that was decided or given up. It returns
// how long deciding took, which leaves out the search for counterexamples.
func All(request *history.Request, all *history.History, deadline time.Time, report func(Line)) time.Duration {
	r := &runner{request: request, history: all, deadline: deadline, report: report}
	// Small keys first: when time runs out, the largest number of keys is decided.
	slices.SortStableFunc(all.Keys, func(a, b history.Key) int { return cmp.Compare(a.Count, b.Count) })
	judge := decide.Judge{Model: request.Model, Engine: request.Engine, Initial: request.Initial}
	hard := r.quick(judge, all.Keys)
	r.shrinkAll()
	r.search(judge, hard)
	return r.decided
}

// runner holds what all goroutines share. Failures wait for their counterexamples until every key had its turn.
type runner struct {
	request  *history.Request
	history  *history.History
	deadline time.Time
	report   func(Line)
	decided  time.Duration // time spent deciding

	lock     sync.Mutex
	failures []failure
}

// quick judges the keys that need no search, and returns the others.
func (r *runner) quick(judge decide.Judge, keys []history.Key) []history.Key {
	var hard []history.Key
	r.each(keys, func(key history.Key, ops []history.Op, _ int) bool {
		result, done := judge.Quick(ops)
		if done {
			return r.conclude(key.ID, ops, result)
		}
		r.lock.Lock()
		defer r.lock.Unlock()
		hard = append(hard, key)
		return false
	})
	slices.SortFunc(hard, func(a, b history.Key) int {
		return cmp.Or(cmp.Compare(a.Count, b.Count), cmp.Compare(a.ID, b.ID))
	})
	return hard
}

// search judges keys by search, in rounds, so that one hopeless key does not keep the others waiting: each gets a
// fair share of half the time left, and those that did not end get more in the next round.
func (r *runner) search(judge decide.Judge, keys []history.Key) {
	workers := r.request.Workers
	for round := 1; len(keys) > 0 && time.Until(r.deadline) > 0; round++ {
		var undecided, tooLarge []history.Key
		few := round > 1 && len(keys) <= workers
		unreached := r.each(keys, func(key history.Key, ops []history.Op, waiting int) bool {
			left := time.Until(r.deadline)
			share := left
			if !few {
				share = left / 2 * time.Duration(workers) / time.Duration(max(waiting, workers))
				share = min(max(share, leastSearch), left)
			}
			result := judge.Slow(ops, share)
			if result.Verdict != decide.Unknown {
				return r.conclude(key.ID, ops, result)
			}
			r.lock.Lock()
			defer r.lock.Unlock()
			if result.Reason == decide.OutOfMemory {
				tooLarge = append(tooLarge, key)
			} else {
				undecided = append(undecided, key)
			}
			return true // a search that was broken off may still look at them for a moment
		})
		r.shrinkAll()
		if round == 1 {
			undecided = append(undecided, tooLarge...) // another search may have been the one that took the memory
		} else {
			r.giveUp(tooLarge, decide.OutOfMemory)
		}
		keys = append(undecided, unreached...)
	}
	r.giveUp(keys, "the search did not end within its time")
}

func (r *runner) giveUp(keys []history.Key, reason string) {
	engine := decide.Porcupine
	if r.request.Engine == decide.Frontier {
		engine = decide.Frontier
	}
	for _, key := range keys {
		r.report(Line{Key: key.ID, Verdict: decide.Unknown, Engine: engine, Reason: reason})
	}
}

// each hands the operations of every key to `do` and returns the keys that the deadline left over. They are made from
// the columns for the time of the call, in memory that another key uses again unless `do` keeps them: it says so.
func (r *runner) each(
	keys []history.Key, do func(key history.Key, ops []history.Op, waiting int) (keep bool),
) (unreached []history.Key) {
	started := time.Now()
	buffers := make(chan []history.Op, r.request.Workers)
	for range r.request.Workers {
		buffers <- nil
	}
	eachOf(keys, r.request.Workers, func(key history.Key, waiting int) {
		if time.Now().After(r.deadline) {
			r.lock.Lock()
			defer r.lock.Unlock()
			unreached = append(unreached, key)
			return
		}
		ops := r.history.Effective(key, <-buffers)
		if do(key, ops, waiting) {
			ops = nil
		}
		buffers <- ops
	})
	r.decided += time.Since(started)
	return unreached
}

// conclude reports a verdict and remembers a failure, with its operations: whether it does is the answer.
func (r *runner) conclude(id int64, ops []history.Op, result decide.Result) bool {
	line := Line{Key: id, Verdict: result.Verdict, Engine: result.Engine, Reason: result.Reason}
	r.report(line)
	if result.Verdict != decide.Fail {
		return false
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.failures = append(r.failures, failure{line: line, ops: ops, culprits: result.Culprits})
	return true
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

// Package decide picks the engine for a key and judges it.
package decide

import (
	"slices"
	"time"

	"aftershock/native/internal/counters"
	"aftershock/native/internal/frontier"
	"aftershock/native/internal/history"
	"aftershock/native/internal/lists"
	"aftershock/native/internal/locks"
	"aftershock/native/internal/numbers"
	"aftershock/native/internal/queues"
	"aftershock/native/internal/search"
	"aftershock/native/internal/sets"
	"aftershock/native/internal/unique"
	"aftershock/native/internal/versions"
)

// Verdict on one key.
type Verdict string

// The names are the binding's.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Unknown Verdict = "unknown"
)

// The engines that a request may ask for.
const (
	Auto      = "auto"
	Unique    = "unique"
	Frontier  = "frontier"
	Porcupine = "porcupine"
)

// Result of one key. Culprits are operations that contain the contradiction, when the engine knows them.
type Result struct {
	Verdict  Verdict
	Engine   string
	Reason   string // why it is unknown
	Culprits []int
}

// Judge is what a request asks of every key.
type Judge struct {
	Model   history.Model
	Engine  string
	Initial []int64 // bank: account and balance in turn
}

// deciders judge a model exactly and in O(n log n), wherever they apply.
var deciders = map[history.Model]func([]history.Op) (history.Outcome, []int){
	history.Register:    unique.Decide,
	history.CASRegister: unique.Decide,
	history.KeyValue:    firstOf(versions.Decide, unlessVersions(unique.Decide)),

	history.Set:               sets.Decide,
	history.Queue:             queues.Decide,
	history.Counter:           counters.Decide,
	history.FetchAndIncrement: numbers.Decide,
	history.Mutex:             locks.Decide,
	history.ListAppend:        lists.Decide,
}

// firstOf asks one decider after the other until one can tell.
func firstOf(all ...func([]history.Op) (history.Outcome, []int)) func([]history.Op) (history.Outcome, []int) {
	return func(ops []history.Op) (outcome history.Outcome, culprits []int) {
		for _, decide := range all {
			if outcome, culprits = decide(ops); outcome != history.NotApplicable {
				return outcome, culprits
			}
		}
		return outcome, culprits
	}
}

// unlessVersions is for a decider that does not look at versions. They only add demands, so what it calls illegal is
// illegal anyhow, and what it calls legal is if no answer told a version.
func unlessVersions(decide func([]history.Op) (history.Outcome, []int)) func([]history.Op) (history.Outcome, []int) {
	return func(ops []history.Op) (history.Outcome, []int) {
		outcome, culprits := decide(ops)
		told := func(op history.Op) bool { return !op.Unknown && op.Version != history.NoVersion }
		if outcome == history.Legal && slices.ContainsFunc(ops, told) {
			outcome = history.NotApplicable
		}
		return outcome, culprits
	}
}

// Quick judges a key in O(n log n) if that is possible, and says whether it was.
func (j Judge) Quick(ops []history.Op) (Result, bool) {
	decide := deciders[j.Model]
	outcome, culprits := history.NotApplicable, []int(nil)
	if decide != nil && (j.Engine == Auto || j.Engine == Unique) {
		outcome, culprits = decide(ops)
	}
	switch {
	case outcome == history.Illegal:
		return Result{Verdict: Fail, Engine: Unique, Culprits: culprits}, true
	case outcome == history.Legal:
		return Result{Verdict: Pass, Engine: Unique}, true
	case j.Engine == Unique:
		return Result{Verdict: Unknown, Engine: Unique, Reason: "what the engine `unique` needs does not hold: it " +
			"decides only where answers say which operation they saw"}, true
	case j.Engine == Frontier && !frontier.Decides(ops, j.Model):
		return Result{Verdict: Unknown, Engine: Frontier, Reason: "what the engine `frontier` needs does not hold: it " +
			"decides registers, and key-value only where no answer told a version"}, true
	default:
		return Result{}, false
	}
}

// Slow judges a key by search, within a budget. In auto, the frontier goes first and Porcupine gets what it leaves.
func (j Judge) Slow(ops []history.Op, budget time.Duration) Result {
	until := time.Now().Add(budget)
	if j.Engine == Frontier || j.Engine == Auto && frontier.Finds(ops, j.Model) {
		share := budget
		if j.Engine == Auto {
			share = budget / 2
		}
		legal, decided, culprits := frontier.DecidePrefix(ops, j.Model, share)
		switch {
		case decided && legal:
			return Result{Verdict: Pass, Engine: Frontier}
		case decided:
			return Result{Verdict: Fail, Engine: Frontier, Culprits: culprits}
		case j.Engine == Frontier:
			return Result{Verdict: Unknown, Engine: Frontier, Reason: outOfTime}
		}
	}
	legal, decided, tooLarge := search.Decide(ops, j.Model, time.Until(until), j.Initial)
	switch {
	case tooLarge:
		return Result{Verdict: Unknown, Engine: Porcupine, Reason: OutOfMemory}
	case !decided:
		return Result{Verdict: Unknown, Engine: Porcupine, Reason: outOfTime}
	case legal:
		return Result{Verdict: Pass, Engine: Porcupine}
	default:
		return Result{Verdict: Fail, Engine: Porcupine}
	}
}

const outOfTime = "the search did not end within its time"

// OutOfMemory is the reason of a search that gave up so that the others can go on.
const OutOfMemory = "the search wants more memory than its limit allows"

// Any judges a key by whichever way applies.
func (j Judge) Any(ops []history.Op, budget time.Duration) Result {
	if result, done := j.Quick(ops); done {
		return result
	}
	return j.Slow(ops, budget)
}

// Package decide picks the engine for a key and judges it.
package decide

import (
	"time"

	"aftershock/native/internal/history"
	"aftershock/native/internal/search"
	"aftershock/native/internal/unique"
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
	Model  history.Model
	Engine string
}

// Quick judges a key in O(n log n) if that is possible, and says whether it was.
func (j Judge) Quick(ops []history.Op) (Result, bool) {
	if j.Engine == Porcupine {
		return Result{}, false
	}
	outcome, culprits := unique.Decide(ops)
	switch {
	case outcome == unique.Illegal:
		// Versions only add constraints, so this holds for the key-value model too.
		return Result{Verdict: Fail, Engine: Unique, Culprits: culprits}, true
	case outcome == unique.Legal && j.Model != history.KeyValue:
		return Result{Verdict: Pass, Engine: Unique}, true
	case j.Engine == Auto:
		return Result{}, false
	case outcome == unique.Legal:
		return Result{Verdict: Unknown, Engine: Unique, Reason: "the engine `unique` does not judge versions"}, true
	default:
		return Result{Verdict: Unknown, Engine: Unique, Reason: "a value was written twice or deleted, which the " +
			"engine `unique` cannot judge"}, true
	}
}

// Slow judges a key by search, within a budget.
func (j Judge) Slow(ops []history.Op, budget time.Duration) Result {
	legal, decided := search.Decide(ops, j.Model, budget)
	switch {
	case !decided:
		return Result{Verdict: Unknown, Engine: Porcupine, Reason: "the search did not end within its time"}
	case legal:
		return Result{Verdict: Pass, Engine: Porcupine}
	default:
		return Result{Verdict: Fail, Engine: Porcupine}
	}
}

// Any judges a key by whichever way applies.
func (j Judge) Any(ops []history.Op, budget time.Duration) Result {
	if result, done := j.Quick(ops); done {
		return result
	}
	return j.Slow(ops, budget)
}

// Package search decides linearizability with Porcupine, for every model and any values.
package search

import (
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"aftershock/native/internal/history"
	"aftershock/native/internal/memory"
	"aftershock/native/internal/spec"
)

// Decide judges the operations of one key within a budget. `initial` is account and balance in turn, for the bank.
// `decided` is false when the budget ran out, or when memory did (`tooLarge`). Panics when the model has not all of the
// functions that were called: the binding refuses such a history.
//
// The history is handed over as operations, never as events: Porcupine answers a call without its return with
// "illegal", without a word.
func Decide(
	ops []history.Op, model history.Model, budget time.Duration, initial []int64,
) (legal, decided, tooLarge bool) {
	if budget <= 0 { // zero would mean "no limit" to Porcupine
		return false, false, false
	}
	compiled, entries, fits := spec.Porcupine(ops, model, initial)
	if !fits {
		panic("the model " + string(model) + " has not all of the functions that were called")
	}
	var gaveUp atomic.Bool
	step := compiled.Step
	compiled.Step = func(before, input, output interface{}) (bool, interface{}) {
		if memory.Short() {
			// Nothing is possible any more: the search goes back the way it came, remembers no more, and ends.
			gaveUp.Store(true)
			return false, before
		}
		return step(before, input, output)
	}
	result := porcupine.CheckOperationsTimeout(compiled, entries, budget)
	if gaveUp.Load() {
		memory.Recover()
		return false, false, true
	}
	return result == porcupine.Ok, result != porcupine.Unknown, false
}

// Package search decides linearizability with Porcupine, for every model and for values that repeat.
package search

import (
	"time"

	"github.com/anishathalye/porcupine"

	"aftershock/native/internal/history"
)

// state of one key. The version is exact, or at least `version` where the answer that would tell was never seen.
type state struct {
	value   int64
	version int64
	exact   bool
}

// Decide judges the operations of one key within a budget. `decided` is false when the budget ran out.
//
// Porcupine knows no unknown operations. They are given an end after everything else (its issue 8) and a step that
// accepts any state, so placing one last is the same as it never having happened. The history is handed over as
// operations, never as events: a call without its return would be answered "illegal" without a word.
func Decide(ops []history.Op, model history.Model, budget time.Duration) (legal, decided bool) {
	if budget <= 0 { // zero would mean "no limit" to Porcupine
		return false, false
	}
	entries := make([]porcupine.Operation, len(ops))
	for i := range ops {
		end := ops[i].End
		if ops[i].Unknown {
			end = history.Open
		}
		entries[i] = porcupine.Operation{Input: &ops[i], Call: ops[i].Start, Return: end}
	}
	step := stepRegister
	if model == history.KeyValue {
		step = stepKeyValue
	}
	result := porcupine.CheckOperationsTimeout(porcupine.Model{
		Init: func() interface{} { return state{value: history.Absent, exact: true} },
		Step: func(before, input, _ interface{}) (bool, interface{}) {
			return step(before.(state), input.(*history.Op))
		},
		Hash: func(s interface{}) uint64 {
			now := s.(state)
			return uint64(now.value)*0x9e3779b97f4a7c15 ^ uint64(now.version)
		},
	}, entries, budget)
	return result == porcupine.Ok, result != porcupine.Unknown
}

// stepRegister is the register with read, write, delete and compare-and-set; versions are not looked at.
func stepRegister(before state, op *history.Op) (bool, interface{}) {
	wanted, observes := op.Observes()
	if observes && wanted != before.value {
		// An unknown CAS that does not match changes nothing, and nobody saw its answer.
		return op.Unknown, before
	}
	if value, writes := op.Writes(); writes {
		before.value = value
	}
	return true, before
}

// stepKeyValue adds versions: each change gets a larger one, and an answer tells the version that it saw or made.
func stepKeyValue(before state, op *history.Op) (bool, interface{}) {
	wanted, observes := op.Observes()
	if observes && wanted != before.value {
		return op.Unknown, before
	}
	told := op.Version != history.NoVersion && !op.Unknown
	value, writes := op.Writes()
	if !writes {
		return matchVersion(before, op, told)
	}
	if op.F == history.Delete && before.value == history.Absent {
		// Deleting what is absent may leave the version as it is.
		if !told {
			before.exact = false
			return true, before
		}
		if same, after := matchVersion(before, op, told); same {
			return true, after
		}
	}
	lowest := before.version + 1
	if !told {
		return true, state{value: value, version: lowest, exact: false}
	}
	return op.Version >= lowest, state{value: value, version: op.Version, exact: true}
}

// matchVersion is an operation that saw the version and left it.
func matchVersion(before state, op *history.Op, told bool) (bool, interface{}) {
	switch {
	case !told:
		return true, before
	case before.exact:
		return op.Version == before.version, before
	default:
		return op.Version >= before.version, state{value: before.value, version: op.Version, exact: true}
	}
}

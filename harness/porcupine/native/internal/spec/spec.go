// Package spec holds every model as a sequential specification for Porcupine: in which state an answer is possible,
// and what state follows.
//
// Porcupine knows no unknown operations. They are given an end after everything else (its issue 8), and their step
// never fails: one that can take effect does, one that cannot (a compare-and-set of another value, a release by who
// does not hold the lock) leaves the state as it is. So placing one last, where nobody looks any more, is the same as
// it never having happened, and placing one earlier is its having happened then.
package spec

import (
	"github.com/anishathalye/porcupine"

	"aftershock/native/internal/history"
)

// step is one operation, ready to be tried: the state that follows, and whether its answer is possible.
type step func(before interface{}) (bool, interface{})

// specification of a model, made for the operations of one key.
type specification struct {
	initial interface{}
	// prepare does once an operation what need not be done at every try; nil for a function that the model has not.
	// The step of an optional operation (see Optional) may answer false: that is turned into "nothing happened".
	prepare func(op *history.Op, optional bool) step
	equal   func(a, b interface{}) bool // nil: ==
	hash    func(state interface{}) uint64
}

// Optional tells whether an operation may have happened or not, at any time from its start on, so that its answer
// does not count: it was never answered, or shrinking forgot its answer. (Of a weakened compare-and-set the value
// that it wrote still counts.)
func Optional(op *history.Op) bool {
	return op.Unknown || op.Weakened && op.F != history.CAS && !op.F.Observes()
}

// Porcupine returns a model and its operations, for the effective operations of one key. `initial` is account and
// balance in turn, for the bank. `fits` is false when the model has not all of their functions.
func Porcupine(
	ops []history.Op, model history.Model, initial []int64,
) (compiled porcupine.Model, entries []porcupine.Operation, fits bool) {
	chosen := choose(ops, model, initial)
	entries = make([]porcupine.Operation, 0, len(ops))
	for i := range ops {
		op, optional := &ops[i], Optional(&ops[i])
		if optional && op.F.Observes() {
			continue
		}
		try := chosen.prepare(op, optional)
		if try == nil {
			return compiled, nil, false
		}
		end := op.End
		if optional {
			end = history.Open
			try = orNothing(try)
		}
		entries = append(entries, porcupine.Operation{Input: try, Call: op.Start, Return: end})
	}
	compiled = porcupine.Model{
		Init:  func() interface{} { return chosen.initial },
		Step:  func(before, input, _ interface{}) (bool, interface{}) { return input.(step)(before) },
		Equal: chosen.equal,
		Hash:  chosen.hash,
	}
	return compiled, entries, true
}

func choose(ops []history.Op, model history.Model, initial []int64) specification {
	switch model {
	case history.Register:
		return register(false)
	case history.KeyValue:
		return keyValue()
	case history.Set:
		return set(ops)
	case history.Queue:
		return queue()
	case history.Counter:
		return counter()
	case history.FetchAndIncrement:
		return fetchAndIncrement()
	case history.Mutex:
		return mutex()
	case history.ListAppend:
		return listAppend()
	case history.Bank:
		return bank(initial)
	default:
		return register(true)
	}
}

func orNothing(try step) step {
	return func(before interface{}) (bool, interface{}) {
		if possible, after := try(before); possible {
			return true, after
		}
		return true, before
	}
}

// observe is a step that changes nothing.
func observe(possible func(state interface{}) bool) step {
	return func(before interface{}) (bool, interface{}) { return possible(before), before }
}

// mix spreads a number over all bits (the finalizer of splitmix64; Steele, Lea & Flood, OOPSLA 2014).
func mix(value int64) uint64 {
	h := uint64(value) + 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

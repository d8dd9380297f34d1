// Package history holds the operations to judge, as the binding hands them over: columns, one row an operation.
package history

import "math"

const (
	// Absent is the value of a key that holds nothing; every key starts so.
	Absent = math.MinInt64
	// Open is the end of an operation that was never answered.
	Open = math.MaxInt64
	// NoVersion marks an operation whose answer carried no version.
	NoVersion = -1
)

// F is the function that an operation called.
type F uint8

// The numbers, and what the columns mean for each, are the binding's `F`.
const (
	Read F = iota
	Write
	CAS
	Delete
	Unequal // a compare-and-set that did not match: `Expected` was not there
	Add
	Contains // Expected is 1 for yes, 0 for no
	ReadAll  // Items: members of a set, elements of a list in order, or account and balance in turn
	Enqueue
	Dequeue // Value is Absent when the queue was empty
	Increment
	Acquire // Value is the fencing token, or Absent
	Release
	Held // an attempt to acquire that found the lock taken
	Append
	Transfer // Value from account Expected to account Version
)

// Observes tells whether an operation of this kind changes nothing.
func (f F) Observes() bool {
	switch f {
	case Read, Unequal, Contains, ReadAll, Held:
		return true
	default:
		return false
	}
}

// Model is the sequential specification that a history is held against.
type Model string

// The names are the binding's `Model`.
const (
	Register          Model = "register"
	CASRegister       Model = "cas-register"
	KeyValue          Model = "key-value"
	Set               Model = "set"
	Queue             Model = "queue"
	Counter           Model = "counter"
	FetchAndIncrement Model = "fetch-and-increment"
	Mutex             Model = "mutex"
	ListAppend        Model = "list-append"
	Bank              Model = "bank"
)

// Models are all of them.
var Models = []Model{
	Register, CASRegister, KeyValue, Set, Queue, Counter, FetchAndIncrement, Mutex, ListAppend, Bank,
}

// Outcome of a decider.
type Outcome int

// NotApplicable means that a precondition of the decider does not hold, so that it can say nothing.
const (
	Legal Outcome = iota
	Illegal
	NotApplicable
)

// Op is one operation on one key. Intervals are closed: an operation precedes another when its End is smaller than
// the other's Start.
type Op struct {
	F        F
	Unknown  bool // it may have happened, at any time from Start on, or not at all
	Weakened bool // of which less counts than was answered; see package shrink
	Row      int32
	Process  int64
	Value    int64 // written (write, CAS: the new one) or read
	Expected int64
	Version  int64 // per-key version of the answer, or NoVersion
	Start    int64 // ns
	End      int64 // ns; Open when it was never answered
	Items    []int64
}

// Writes tells whether the operation may change the key, and to what.
func (op *Op) Writes() (int64, bool) {
	switch op.F {
	case Write, CAS:
		return op.Value, true
	case Delete:
		return Absent, true
	default:
		return 0, false
	}
}

// Observes tells whether the operation needed a certain value to be there, and which.
func (op *Op) Observes() (int64, bool) {
	switch {
	case op.F == Read:
		return op.Value, true
	case op.F == CAS && !op.Weakened:
		return op.Expected, true
	default:
		return 0, false
	}
}

// Effective returns the operations that can matter. Reads of which the answer never came say nothing, and a CAS that
// replaces a value by itself is a read of it, or nothing when nobody knows whether it happened; not so where each
// change makes a version.
func Effective(ops []Op, model Model) []Op {
	kept := make([]Op, 0, len(ops))
	for _, op := range ops {
		if op.matters(model) {
			kept = append(kept, op)
		}
	}
	return kept
}

// matters makes a CAS that replaces a value by itself a read of it, and tells whether the operation says anything.
func (op *Op) matters(model Model) bool {
	if op.F == CAS && op.Value == op.Expected && !op.Weakened && model != KeyValue {
		op.F = Read
	}
	return !op.Unknown || !op.F.Observes()
}

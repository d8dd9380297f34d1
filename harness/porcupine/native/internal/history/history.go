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
type F int64

// The numbers are the binding's `F`.
const (
	Read F = iota
	Write
	CAS
	Delete
)

// Model is the sequential specification that a history is held against.
type Model string

// The names are the binding's `Model`.
const (
	Register    Model = "register"
	CASRegister Model = "cas-register"
	KeyValue    Model = "key-value"
)

// Op is one operation on one key. Intervals are closed: an operation precedes another when its End is smaller than
// the other's Start.
type Op struct {
	F        F
	Unknown  bool // it may have happened, at any time from Start on, or not at all
	Weakened bool // a CAS of which only the written value counts; see package shrink
	Row      int32
	Value    int64 // written (write, CAS: the new one) or read
	Expected int64 // CAS only
	Version  int64 // per-key version of the answer, or NoVersion
	Start    int64 // ns
	End      int64 // ns; Open when it was never answered
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
// replaces a value by itself is a read of it, or nothing when nobody knows whether it happened.
func Effective(ops []Op) []Op {
	kept := make([]Op, 0, len(ops))
	for _, op := range ops {
		if op.F == CAS && op.Value == op.Expected && !op.Weakened {
			op.F = Read
		}
		if op.F == Read && op.Unknown {
			continue
		}
		kept = append(kept, op)
	}
	return kept
}

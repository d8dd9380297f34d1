// Package settled checks an order that the answers have settled.
//
// Where answers tell in which order the operations took effect, as groups one after the other, all that is left to
// ask is whether the times allow it: nothing of a later group may have ended before something of an earlier group
// began. That is enough: put each operation at its own start, or at the largest start of all groups before its own if
// that is later. Unless something contradicts, this is within its interval, and no group reaches into the next one.
package settled

import (
	"math"

	"aftershock/native/internal/history"
	"aftershock/native/internal/places"
	"aftershock/native/internal/radix"
)

// None is no operation.
const None = -1

// Order is walked from the first group to the last: for each, all ends are tested before any start is added.
type Order struct {
	latest int64
	by     int
}

// New is an order with nothing in it.
func New() Order { return Order{latest: math.MinInt64, by: None} }

// Began adds something by the name of `who`.
func (o *Order) Began(who int, start int64) {
	if o.by == None || start > o.latest {
		o.latest, o.by = start, who
	}
}

// Contradicts returns who of an earlier group began after `end`, None if nobody did.
func (o *Order) Contradicts(end int64) int {
	if end < o.latest {
		return o.by
	}
	return None
}

// Certain tells whether an operation took effect for certain, and its answer counts. The others may have happened or
// not, at any time from their start on: they were never answered, or package shrink forgot their answer.
func Certain(op *history.Op) bool {
	return !op.Unknown && (!op.Weakened || op.F.Observes())
}

// End is by when the operation took effect, if it did: Open unless that is certain.
func End(op *history.Op) int64 {
	if Certain(op) {
		return op.End
	}
	return history.Open
}

// Sorted returns the numbers below `count` by a key, equal ones as they are.
func Sorted(count int, key func(i int) int64) []int32 {
	keys := make([]int64, count)
	for i := range keys {
		keys[i] = key(i)
	}
	var sorter radix.Sorter
	return sorter.Order(keys)
}

// Table is an empty table for the values of those operations that are `named`.
func Table(ops []history.Op, named func(op *history.Op) bool) *places.Table {
	low, high, count := int64(0), int64(0), 0
	for i := range ops {
		if !named(&ops[i]) {
			continue
		}
		if value := ops[i].Value; count == 0 {
			low, high = value, value
		} else {
			low, high = min(low, value), max(high, value)
		}
		count++
	}
	table := &places.Table{}
	table.Reset(low, high, count)
	return table
}

// Package frontier decides linearizability of a register with read, write, delete and compare-and-set, for any values
// and any number of unknown operations. It is exact, and exponential only in what cannot be told apart by answers.
//
// It is Lowe's just-in-time search (Concurrency Computat.: Pract. Exper. 29(4), 2017): operations are placed only when
// one returns that is not placed yet, and that one is the last to be placed then. What is open there, what of it is
// placed and the value make a configuration (see record). What follows keeps them few; each is safe because an order
// that breaks the rule can be changed into one that keeps it, without a longer way or another unknown operation:
//
//   - An operation that only looks, and sees what is there, is placed at once.
//   - A write or delete is placed before its return only if somebody then looks at its value. Otherwise it was
//     overwritten unseen, right before the write that did so: nothing is chosen until it returns. If another write was
//     placed while it was open, it may be left out then.
//   - An unknown operation is placed only if somebody then looks at its value, or, through unknown compare-and-sets, at
//     what becomes of it. Who had seen the value before it was absorbed already, so it is never placed to no effect but
//     for one: to put again what is there, so that an open write can go unseen right before it.
//   - Of operations that differ in their times alone, the one that ends first is placed first, among those that have
//     started. Unknown ones end last, and differ in their starts alone: it is enough to count those used.
//   - Values that nobody looks at (any more) are one value.
//   - A configuration is dropped for another one with the same value and the same writes placed, that has used no
//     unknown operation more and in which nothing waits that does not wait in it.
package frontier

import (
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"aftershock/native/internal/history"
)

// Decides tells whether the engine can judge these operations, given time: the register models, and key-value where
// nobody was told a version, which makes it a register.
func Decides(ops []history.Op, model history.Model) bool {
	return Finds(ops, model) && !(model == history.KeyValue && tellVersions(ops))
}

// Finds tells whether the engine can find these operations illegal. Versions only add to what a register demands.
func Finds(ops []history.Op, model history.Model) bool {
	for i := range ops {
		if ops[i].F > history.Unequal {
			return false
		}
	}
	return model == history.Register || model == history.CASRegister || model == history.KeyValue
}

func tellVersions(ops []history.Op) bool {
	return slices.ContainsFunc(ops, func(op history.Op) bool { return op.Version != history.NoVersion })
}

// Decide judges the operations of one key within a budget. `decided` is false when time or memory ran out, and where
// the engine does not apply.
func Decide(ops []history.Op, model history.Model, budget time.Duration) (legal, decided bool) {
	legal, decided, _ = DecidePrefix(ops, model, budget)
	return legal, decided
}

// DecidePrefix also returns, for an illegal history, the indices of the operations of an illegal prefix: those that
// started before a return by which no order explains the answers, so they are illegal by themselves.
func DecidePrefix(ops []history.Op, model history.Model, limit time.Duration) (isLegal, decided bool, culprits []int) {
	if limit <= 0 || !Finds(ops, model) || len(ops) > mostOperations {
		return false, false, nil
	}
	t := newTimeline(ops)
	b := &budget{deadline: time.Now().Add(limit), memory: memoryLimit()}
	defer b.release()
	found, reached := run(t, b)
	switch {
	case found == illegal:
		for _, at := range t.started[:t.until[reached]] {
			culprits = append(culprits, int(t.ops[at].index))
		}
		return false, true, culprits
	case found == legal && Decides(ops, model):
		return true, true, nil
	default:
		return false, false, nil
	}
}

// mostOperations keeps every place within 32 bits.
const mostOperations = 1 << 29

// run lets depth first and breadth first take turns, each with more steps than the turn before: the one is far better
// at finding an order where there is one, the other at finding that there is none.
func run(t *timeline, b *budget) (outcome, int) {
	deep, wide := true, true
	for steps := 10_000 + 2*len(t.ops); deep || wide; steps *= 4 {
		for _, turn := range []struct {
			on   *bool
			with func(*search, int) outcome
		}{{&deep, (*search).depth}, {&wide, (*search).breadth}} {
			if !*turn.on {
				continue
			}
			s := newSearch(t, b)
			switch found := turn.with(s, steps); found {
			case legal, illegal:
				return found, s.reached
			case outOfBudget:
				*turn.on = false
			}
			b.release()
		}
	}
	return outOfBudget, none
}

// Memory that all searches of the process may hold together, and what part of the limit that the process was given.
const (
	mostBytes     = 1500 << 20
	partOfLimit   = 2
	checkInterval = 256
)

var held atomic.Int64

func memoryLimit() int64 { return min(mostBytes, debug.SetMemoryLimit(-1)/partOfLimit) }

// budget of one search.
type budget struct {
	deadline time.Time
	memory   int64
	held     int64
	calls    int
	over     bool // time or memory ran out
}

// spent tells whether time or memory ran out. It looks every so many calls only.
func (b *budget) spent(bytes int64) bool {
	b.calls++
	if b.calls%checkInterval == 0 && !b.over {
		total := held.Add(bytes - b.held)
		b.held = bytes
		b.over = total > b.memory || !time.Now().Before(b.deadline)
	}
	return b.over
}

// release gives the memory back, to the other searches or the next one.
func (b *budget) release() {
	held.Add(-b.held)
	b.held, b.over = 0, false
}

// Package shrink makes a minimal counterexample of an illegal history by delta debugging (Zeller & Hildebrandt,
// IEEE TSE 28(2), 2002), with steps that can never turn a legal history into an illegal one. So whatever is illegal
// at the end proves that the whole is. For every model:
//
//   - What only looks (a read, a HELD) may be left out.
//   - What changes something may be opened: from then on it may have happened or not, at any time from its start on.
//   - What may have happened, and begins when everything answered is over, may be left out. (Not done for registers:
//     "it was read before anybody began to write it" says more than "nobody wrote it".)
//   - The history may be cut at a point in time: what had not ended by then is opened, what had not begun goes.
//
// What else may be left out, and what must go along with it, depends on the model: see `rules`.
package shrink

import (
	"slices"

	"aftershock/native/internal/history"
)

// Case is a part of a history, with what was done to it so that it stands for the whole.
type Case struct {
	Ops     []history.Op
	Initial []int64 // bank: account and balance in turn
	Base    int64   // counter: increments that were left out and are in every read; `Ops` has the reads without them
	Merged  []int64 // bank: an account and the one that it was counted with, in turn
	Anchor  *int32  // counter, bank: row of the read that tells the state from which on the others are judged
}

// Illegal says whether a case is certainly not linearizable, and false once the budget is used up.
type Illegal func(c Case) bool

// rules say for a model what may be left out.
type rules interface {
	// keep returns cases with the marked operations and what they need, the smaller ones first.
	keep(c Case, marked []bool) []Case
	// drop returns what is left when some operations go, and with them all that must go along. It may decide to only
	// open an operation, or to leave it as it is.
	drop(c Case, gone []bool) Case
}

func rulesOf(model history.Model) rules {
	switch model {
	case history.Set:
		return set{}
	case history.ListAppend:
		return list{}
	case history.Queue:
		return queue{}
	case history.Counter:
		return counter{}
	case history.FetchAndIncrement:
		return numbered{}
	case history.Mutex:
		return mutex{}
	case history.Bank:
		return bank{}
	default:
		return register{versions: model == history.KeyValue}
	}
}

// fewEnough is a number of operations from which on cutting the history in time first is not worth the trials.
const fewEnough = 64

// Minimize returns a case of which nothing can be left out. `all` must be illegal and `culprits` may name indices
// that are thought to hold the contradiction.
func Minimize(all []history.Op, model history.Model, initial []int64, culprits []int, illegal Illegal) Case {
	r := rulesOf(model)
	c := Case{Ops: all, Initial: initial}
	named := false
	if len(culprits) > 0 && len(culprits) < len(all) {
		c, named = focus(r, c, culprits, illegal)
	}
	if !named && len(c.Ops) > fewEnough {
		c = shortest(r, c, illegal)
	}
	switch model {
	case history.Counter:
		c = anchor(c, illegal)
	case history.Bank:
		c = merge(anchor(total(c, illegal), illegal), illegal)
	}
	c = weakenAll(c, illegal)
	for {
		before := size(c)
		c = weakenAll(dropChunks(r, c, illegal), illegal)
		if size(c) == before {
			return restore(r, all, c, illegal)
		}
	}
}

// focus keeps the culprits and what they need, if that is illegal.
func focus(r rules, c Case, culprits []int, illegal Illegal) (Case, bool) {
	marked := make([]bool, len(c.Ops))
	for _, i := range culprits {
		marked[i] = true
	}
	for _, fewer := range r.keep(c, marked) {
		if len(fewer.Ops) > 0 && illegal(fewer) {
			return fewer, true
		}
	}
	return c, false
}

// size shrinks with every step: an operation counts 2, and 1 where less of it counts than was answered.
func size(c Case) int {
	total := 2 * len(c.Ops)
	for i := range c.Ops {
		if c.Ops[i].Weakened || c.Ops[i].Unknown {
			total--
		}
	}
	return total
}

// with is the case with other operations.
func (c Case) with(ops []history.Op) Case {
	c.Ops = ops
	return c
}

func (c Case) pick(marked []bool) Case {
	count := 0
	for _, yes := range marked {
		if yes {
			count++
		}
	}
	picked := make([]history.Op, 0, count)
	for i, yes := range marked {
		if yes {
			picked = append(picked, c.Ops[i])
		}
	}
	return c.with(picked)
}

func (c Case) omit(gone []bool) Case {
	kept := make([]bool, len(gone))
	for i := range gone {
		kept[i] = !gone[i]
	}
	return c.pick(kept)
}

// open makes an operation optional; its answer does not count any more.
func open(op *history.Op) {
	op.Unknown = true
	op.End = history.Open
	switch op.F {
	case history.Write, history.CAS, history.Delete:
		op.Version = history.NoVersion
	case history.Dequeue, history.Acquire:
		op.Value = history.Absent
	}
}

// tidy leaves out optional operations that begin when everything answered is over: nobody could tell.
func tidy(c Case) Case {
	last := int64(-1 << 63)
	for i := range c.Ops {
		if !c.Ops[i].Unknown {
			last = max(last, c.Ops[i].End)
		}
	}
	if !slices.ContainsFunc(c.Ops, func(op history.Op) bool { return op.Unknown && op.Start > last }) {
		return c
	}
	kept := make([]history.Op, 0, len(c.Ops))
	for i := range c.Ops {
		if !c.Ops[i].Unknown || c.Ops[i].Start <= last {
			kept = append(kept, c.Ops[i])
		}
	}
	return c.with(kept)
}

// dropChunks leaves out ever smaller runs of operations, down to single ones, for as long as that succeeds.
func dropChunks(r rules, c Case, illegal Illegal) Case {
	for length := (len(c.Ops) + 1) / 2; length > 0; length /= 2 {
		for from := 0; from < len(c.Ops); {
			fewer := without(r, c, from, min(from+length, len(c.Ops)))
			if progress := size(fewer) < size(c); progress && len(fewer.Ops) > 0 && illegal(fewer) {
				if len(fewer.Ops) == len(c.Ops) {
					from += length // they were only opened; the next ones are at the same place
				}
				c = fewer
			} else {
				from += length
			}
		}
	}
	return c
}

func without(r rules, c Case, from, to int) Case {
	gone := make([]bool, len(c.Ops))
	for i := from; i < to; i++ {
		gone[i] = true
	}
	return r.drop(c, gone)
}

// weakenAll turns as many compare-and-sets into plain writes as the contradiction allows, run by run: otherwise long
// chains of them would stay.
func weakenAll(c Case, illegal Illegal) Case {
	var strict []int
	for i := range c.Ops {
		if c.Ops[i].F == history.CAS && !c.Ops[i].Weakened {
			strict = append(strict, i)
		}
	}
	for length := len(strict); length > 0; length /= 2 {
		for from := 0; from < len(strict); from += length {
			weaker := slices.Clone(c.Ops)
			changed := false
			for _, i := range strict[from:min(from+length, len(strict))] {
				changed = changed || !weaker[i].Weakened
				weaker[i].Weakened = true
			}
			if changed && illegal(c.with(weaker)) {
				c = c.with(weaker)
			}
		}
	}
	return c
}

// restore takes back every weakening that costs nothing. That is allowed for registers: what may be left out of them
// does not depend on it. A compare-and-set is a write only as long as not all who wrote what it replaced are here.
func restore(r rules, all []history.Op, c Case, illegal Illegal) Case {
	if _, registers := r.(register); !registers {
		return c
	}
	given := map[int32]history.Op{}
	for i := range c.Ops {
		given[c.Ops[i].Row] = c.Ops[i]
	}
	for i := range all {
		if _, here := given[all[i].Row]; here {
			given[all[i].Row] = all[i]
		}
	}
	for i := range c.Ops {
		as := given[c.Ops[i].Row]
		chained := c.Ops[i].Weakened && writers(all, as.Expected) != writers(c.Ops, as.Expected)
		if chained {
			as.Weakened = true
		}
		if as.Weakened == c.Ops[i].Weakened && as.Unknown == c.Ops[i].Unknown {
			continue
		}
		stronger := slices.Clone(c.Ops)
		stronger[i] = as
		if minimal(r, c.with(stronger), illegal) {
			c = c.with(stronger)
		}
	}
	return c
}

// minimal tells whether no step leaves less that is illegal.
func minimal(r rules, c Case, illegal Illegal) bool {
	for i := range c.Ops {
		if fewer := without(r, c, i, i+1); size(fewer) < size(c) && len(fewer.Ops) > 0 && illegal(fewer) {
			return false
		}
	}
	return true
}

// Package shrink makes a minimal counterexample of an illegal history by delta debugging (Zeller & Hildebrandt,
// IEEE TSE 28(2), 2002), with steps that can never turn a legal history into an illegal one:
//
//   - An operation may be left out unless it wrote a value that a remaining operation needed. (A linearization of the
//     whole stays one without it: nobody between it and the next write looked.)
//   - A compare-and-set may be weakened to a write of its new value, so that long chains of them fall apart.
//
// So whatever is illegal at the end proves that the whole is. "Nobody wrote this value" stays a reason only if it
// was one before: writers of needed values are kept, all of them.
package shrink

import "aftershock/native/internal/history"

// Illegal says whether operations are certainly not linearizable, and false once the budget is used up.
type Illegal func(ops []history.Op) bool

// Minimize returns operations of which none can be left out. `all` must be illegal and `culprits` may
// name indices that are thought to hold the contradiction.
func Minimize(all []history.Op, culprits []int, illegal Illegal) []history.Op {
	ops := all
	if len(culprits) > 0 && len(culprits) < len(ops) {
		named := make([]bool, len(ops))
		for _, i := range culprits {
			named[i] = true
		}
		fewer := closed(ops, named)
		if illegal(fewer) {
			ops = fewer
		}
	}
	ops = weakenAll(ops, illegal)
	for {
		before := size(ops)
		ops = weakenAll(dropChunks(ops, illegal), illegal)
		if size(ops) == before {
			return restore(all, ops, illegal)
		}
	}
}

// size shrinks with every step: an operation counts 2, a weakened one 1 less.
func size(ops []history.Op) int {
	total := 2 * len(ops)
	for i := range ops {
		if ops[i].Weakened {
			total--
		}
	}
	return total
}

// closed returns the marked operations and, for every value that one of them needs, all writers of it.
func closed(ops []history.Op, marked []bool) []history.Op {
	byValue := map[int64][]int{}
	for i := range ops {
		if value, writes := ops[i].Writes(); writes {
			byValue[value] = append(byValue[value], i)
		}
	}
	waiting := make([]int, 0, len(ops))
	for i, yes := range marked {
		if yes {
			waiting = append(waiting, i)
		}
	}
	for len(waiting) > 0 {
		i := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		if value, observes := ops[i].Observes(); observes {
			for _, writer := range byValue[value] {
				if !marked[writer] {
					marked[writer] = true
					waiting = append(waiting, writer)
				}
			}
			delete(byValue, value)
		}
	}
	return pick(ops, marked)
}

// without returns the operations that remain when some are taken out, and with them all that needed their values.
func without(ops []history.Op, from, to int) []history.Op {
	gone := make([]bool, len(ops))
	needers := map[int64][]int{}
	for i := range ops {
		if value, observes := ops[i].Observes(); observes {
			needers[value] = append(needers[value], i)
		}
	}
	var waiting []int
	for i := from; i < to; i++ {
		gone[i] = true
		waiting = append(waiting, i)
	}
	for len(waiting) > 0 {
		i := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		if value, writes := ops[i].Writes(); writes {
			for _, needer := range needers[value] {
				if !gone[needer] {
					gone[needer] = true
					waiting = append(waiting, needer)
				}
			}
			delete(needers, value)
		}
	}
	for i := range gone {
		gone[i] = !gone[i]
	}
	return pick(ops, gone)
}

func pick(ops []history.Op, marked []bool) []history.Op {
	var picked []history.Op
	for i, yes := range marked {
		if yes {
			picked = append(picked, ops[i])
		}
	}
	return picked
}

// dropChunks leaves out ever smaller runs of operations, down to single ones, for as long as that succeeds.
func dropChunks(ops []history.Op, illegal Illegal) []history.Op {
	for length := (len(ops) + 1) / 2; length > 0; length /= 2 {
		for from := 0; from < len(ops); {
			fewer := without(ops, from, min(from+length, len(ops)))
			if len(fewer) > 0 && illegal(fewer) {
				ops = fewer
			} else {
				from += length
			}
		}
	}
	return ops
}

// weakenAll turns as many compare-and-sets into plain writes as the contradiction allows, run by run.
func weakenAll(ops []history.Op, illegal Illegal) []history.Op {
	var strict []int
	for i := range ops {
		if ops[i].F == history.CAS && !ops[i].Weakened {
			strict = append(strict, i)
		}
	}
	for length := len(strict); length > 0; length /= 2 {
		for from := 0; from < len(strict); from += length {
			weaker := append([]history.Op(nil), ops...)
			changed := false
			for _, i := range strict[from:min(from+length, len(strict))] {
				changed = changed || !weaker[i].Weakened
				weaker[i].Weakened = true
			}
			if changed && illegal(weaker) {
				ops = weaker
			}
		}
	}
	return ops
}

// restore takes back every weakening that costs nothing: all who wrote the value that the compare-and-set replaced
// are here anyway, or it was there at first and nobody wrote it.
func restore(all, ops []history.Op, illegal Illegal) []history.Op {
	for i := range ops {
		if !ops[i].Weakened || writers(all, ops[i].Expected) != writers(ops, ops[i].Expected) {
			continue
		}
		stronger := append([]history.Op(nil), ops...)
		stronger[i].Weakened = false
		if minimal(stronger, illegal) {
			ops = stronger
		}
	}
	return ops
}

// writers counts the operations that write a value.
func writers(ops []history.Op, value int64) int {
	count := 0
	for i := range ops {
		if written, writes := ops[i].Writes(); writes && written == value {
			count++
		}
	}
	return count
}

// minimal tells whether taking out any operation, and what needed its value, leaves a history that is not illegal.
func minimal(ops []history.Op, illegal Illegal) bool {
	for i := range ops {
		if fewer := without(ops, i, i+1); len(fewer) > 0 && illegal(fewer) {
			return false
		}
	}
	return true
}

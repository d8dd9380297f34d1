package usermodel

import (
	"cmp"
	"slices"
	"time"
)

// mostTogether and mostTried bound the search for all states that operations can leave.
const (
	mostTogether = 64
	mostTried    = 100_000
)

// mostWhole is how many operations are few enough to be told from the beginning.
const mostWhole = 10

// afterPause looks for the last moment before the end at which no answer was outstanding, and replaces what was before
// it by the states that it can have left, if what follows is illegal all the same. Unknown operations stay: they are
// let to take effect once between any two such moments, which is more often than they can, so what is illegal stays
// proven. It returns all operations where that does not help.
func (r *shrinker) afterPause(ops []operation) []operation {
	if len(ops) <= mostWhole {
		return ops
	}
	var answered, maybe []operation
	for _, op := range ops {
		if op.unknown() {
			maybe = append(maybe, op)
		} else {
			answered = append(answered, op)
		}
	}
	slices.SortStableFunc(answered, func(a, b operation) int { return cmp.Compare(a.start, b.start) })
	from, first := int32(0), 0
	over := answered[0].end
	for i := 1; i < len(answered); i++ {
		if over < answered[i].start {
			open := slices.DeleteFunc(slices.Clone(maybe), func(op operation) bool {
				return op.start > over || r.observer(&op)
			})
			states := r.leave(from, answered[first:i], open)
			if len(states) == 0 {
				return ops
			}
			from, first = r.either(states), i
		}
		over = max(over, answered[i].end)
	}
	rest := append(slices.Clone(answered[first:]), maybe...)
	r.from = from
	if first > 0 && r.illegal(rest) {
		return rest
	}
	r.from = 0
	return ops
}

// leave lists the states in which all of `answered`, and any of `maybe`, can leave the one that they found; none when
// that are too many to look for.
func (r *shrinker) leave(found int32, answered, maybe []operation) []int32 {
	ops := append(slices.Clone(answered), maybe...)
	if len(ops) > mostTogether || time.Now().After(r.until) {
		return nil
	}
	before := make([]uint64, len(ops))
	for i := range ops {
		for j := range answered {
			if answered[j].end < ops[i].start {
				before[i] |= 1 << j
			}
		}
	}
	type node struct {
		placed uint64
		state  int32
	}
	required := uint64(1)<<len(answered) - 1
	start := node{state: found}
	seen := map[node]bool{start: true}
	left := map[int32]bool{}
	for waiting := []node{start}; len(waiting) > 0; {
		now := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		if now.placed&required == required {
			left[now.state] = true
		}
		for i := range ops {
			if now.placed>>i&1 == 1 || before[i]&^now.placed != 0 {
				continue
			}
			after := node{now.placed | 1<<i, r.next(now.state, &ops[i])}
			if after.state == impossible || seen[after] {
				continue
			}
			if seen[after] = true; len(seen) > mostTried {
				return nil
			}
			waiting = append(waiting, after)
		}
	}
	states := make([]int32, 0, len(left))
	for state := range left {
		states = append(states, state)
	}
	slices.Sort(states)
	return states
}

package spec

import (
	"slices"

	"aftershock/native/internal/history"
)

func number(prepare func(op *history.Op, optional bool) step) specification {
	return specification{
		initial: int64(0),
		hash:    func(state interface{}) uint64 { return mix(state.(int64)) },
		prepare: func(op *history.Op, optional bool) step {
			if op.F == history.Read {
				return observe(func(state interface{}) bool { return state.(int64) == op.Value })
			}
			return prepare(op, optional)
		},
	}
}

// counter is incremented by amounts, of which answers tell nothing.
func counter() specification {
	return number(func(op *history.Op, _ bool) step {
		if op.F != history.Increment {
			return nil
		}
		return func(before interface{}) (bool, interface{}) { return true, before.(int64) + op.Value }
	})
}

// fetchAndIncrement answers each increment with the number that it made.
func fetchAndIncrement() specification {
	return number(func(op *history.Op, optional bool) step {
		if op.F != history.Increment {
			return nil
		}
		return func(before interface{}) (bool, interface{}) {
			next := before.(int64) + 1
			return optional || op.Value == next, next
		}
	})
}

// lock is the state of a mutex. `token` is the largest fencing token so far, or the least that it can be where an
// acquisition told none; Absent before the first.
type lock struct {
	held   bool
	holder int64
	token  int64
}

// mutex can be acquired when it is free, also by who held it before, and released by its holder.
func mutex() specification {
	return specification{
		initial: lock{token: history.Absent},
		hash: func(state interface{}) uint64 {
			now := state.(lock)
			if !now.held {
				return mix(now.token)
			}
			return mix(now.token) ^ mix(now.holder)<<1
		},
		prepare: func(op *history.Op, optional bool) step {
			switch op.F {
			case history.Acquire:
				told := op.Value != history.Absent && !optional
				return func(before interface{}) (bool, interface{}) {
					now := before.(lock)
					after := lock{held: true, holder: op.Process, token: now.token + 1}
					if told {
						after.token = op.Value
					}
					return !now.held && after.token > now.token, after
				}
			case history.Release:
				return func(before interface{}) (bool, interface{}) {
					now := before.(lock)
					return now.held && now.holder == op.Process, lock{token: now.token}
				}
			case history.Held:
				return observe(func(state interface{}) bool { return state.(lock).held })
			default:
				return nil
			}
		},
	}
}

// bank keeps balances, none of which is ever below zero. Accounts are those of `initial`: account and balance in turn.
func bank(initial []int64) specification {
	places := map[int64]int{}
	var balances []int64
	for i := 0; i+1 < len(initial); i += 2 {
		places[initial[i]] = len(balances)
		balances = append(balances, initial[i+1])
	}
	impossible := observe(func(interface{}) bool { return false })
	return specification{
		initial: balances,
		equal:   func(a, b interface{}) bool { return slices.Equal(a.([]int64), b.([]int64)) },
		hash: func(state interface{}) uint64 {
			var sum uint64
			for place, balance := range state.([]int64) {
				sum += mix(balance ^ int64(mix(int64(place))))
			}
			return sum
		},
		prepare: func(op *history.Op, _ bool) step {
			switch op.F {
			case history.Transfer:
				source, known := places[op.Expected]
				target, alsoKnown := places[op.Version]
				if !known || !alsoKnown {
					return impossible
				}
				return func(before interface{}) (bool, interface{}) {
					after := slices.Clone(before.([]int64))
					after[source] -= op.Value
					after[target] += op.Value
					return slices.Min(after) >= 0, after
				}
			case history.ReadAll:
				seen, exact := told(op.Items, places)
				if !exact {
					return impossible
				}
				return observe(func(state interface{}) bool { return slices.Equal(state.([]int64), seen) })
			default:
				return nil
			}
		},
	}
}

// told sorts the balances of an answer by place; false when it does not name every account exactly once.
func told(items []int64, places map[int64]int) ([]int64, bool) {
	seen := make([]int64, len(places))
	named := make([]bool, len(places))
	for i := 0; i+1 < len(items); i += 2 {
		place, known := places[items[i]]
		if !known || named[place] {
			return nil, false
		}
		seen[place], named[place] = items[i+1], true
	}
	return seen, len(items) == 2*len(places)
}

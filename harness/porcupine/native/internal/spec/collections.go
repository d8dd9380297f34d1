package spec

import (
	"slices"

	"aftershock/native/internal/history"
)

// members is a set: a bit for each element that somebody adds, and the sum of their hashes.
type members struct {
	bits []uint64
	hash uint64
}

// set is the grow-only set.
func set(ops []history.Op) specification {
	places := map[int64]int{}
	for i := range ops {
		if _, there := places[ops[i].Value]; ops[i].F == history.Add && !there {
			places[ops[i].Value] = len(places)
		}
	}
	words := (len(places) + 63) / 64
	return specification{
		initial: members{bits: make([]uint64, words)},
		equal: func(a, b interface{}) bool {
			return slices.Equal(a.(members).bits, b.(members).bits)
		},
		hash: func(state interface{}) uint64 { return state.(members).hash },
		prepare: func(op *history.Op, _ bool) step {
			place, added := places[op.Value]
			switch op.F {
			case history.Add:
				return func(before interface{}) (bool, interface{}) { return true, before.(members).with(place) }
			case history.Contains:
				return observe(func(state interface{}) bool {
					return (added && state.(members).has(place)) == (op.Expected != 0)
				})
			case history.ReadAll:
				seen := members{bits: make([]uint64, words)}
				for _, element := range op.Items {
					place, added := places[element]
					if !added {
						return observe(func(interface{}) bool { return false })
					}
					seen = seen.with(place)
				}
				return observe(func(state interface{}) bool { return slices.Equal(state.(members).bits, seen.bits) })
			default:
				return nil
			}
		},
	}
}

func (m members) has(place int) bool { return m.bits[place/64]>>(place%64)&1 == 1 }

func (m members) with(place int) members {
	if m.has(place) {
		return m
	}
	bits := slices.Clone(m.bits)
	bits[place/64] |= 1 << (place % 64)
	return members{bits: bits, hash: m.hash + mix(int64(place))}
}

// sequence is a list that is never changed in place, and its hash: the polynomial in `base` of its elements' hashes.
type sequence struct {
	elements []int64
	hash     uint64
}

const base = 0x9e3779b97f4a7c15 // odd, so that no power of it is zero

func sequences(prepare func(op *history.Op, optional bool) step) specification {
	return specification{
		initial: sequence{},
		equal: func(a, b interface{}) bool {
			return slices.Equal(a.(sequence).elements, b.(sequence).elements)
		},
		hash:    func(state interface{}) uint64 { return state.(sequence).hash },
		prepare: prepare,
	}
}

// put copies the list: two branches of the search must not write into the same array.
func (s sequence) put(value int64) sequence {
	longer := make([]int64, len(s.elements)+1)
	copy(longer, s.elements)
	longer[len(s.elements)] = value
	return sequence{elements: longer, hash: s.hash*base + mix(value)}
}

// rest is the list without its first element.
func (s sequence) rest() sequence {
	weight := uint64(1)
	for power, left := uint64(base), len(s.elements)-1; left > 0; left >>= 1 {
		if left&1 == 1 {
			weight *= power
		}
		power *= power
	}
	return sequence{elements: s.elements[1:], hash: s.hash - weight*mix(s.elements[0])}
}

func appending(op *history.Op) step {
	return func(before interface{}) (bool, interface{}) { return true, before.(sequence).put(op.Value) }
}

// queue is first in, first out.
func queue() specification {
	return sequences(func(op *history.Op, optional bool) step {
		switch op.F {
		case history.Enqueue:
			return appending(op)
		case history.Dequeue:
			return func(before interface{}) (bool, interface{}) {
				now := before.(sequence)
				if len(now.elements) == 0 {
					return optional || op.Value == history.Absent, before
				}
				return optional || op.Value == now.elements[0], now.rest()
			}
		default:
			return nil
		}
	})
}

// listAppend is a list that is appended to and read as a whole.
func listAppend() specification {
	return sequences(func(op *history.Op, _ bool) step {
		switch op.F {
		case history.Append:
			return appending(op)
		case history.ReadAll:
			return observe(func(state interface{}) bool { return slices.Equal(state.(sequence).elements, op.Items) })
		default:
			return nil
		}
	})
}

// Package radix orders indices by a key in linear time: least significant digit first (Knuth, TAOCP 3, section 5.2.5).
package radix

import "slices"

// few is up to where a comparison sort is faster than counting digits.
const few = 96

type entry struct {
	key   uint64 // above the smallest key
	index int32
}

// Sorter keeps its memory from one use to the next.
type Sorter struct {
	from, to []entry
	order    []int32
}

// Order returns the indices of keys, smallest key first and equal ones as they were. The result is valid until the
// next call.
func (s *Sorter) Order(keys []int64) []int32 {
	s.order = slices.Grow(s.order[:0], len(keys))
	sorted := true
	low, high := int64(0), int64(0)
	for i, key := range keys {
		if i == 0 {
			low, high = key, key
		}
		sorted = sorted && high <= key
		low, high = min(low, key), max(high, key)
		s.order = append(s.order, int32(i))
	}
	switch {
	case sorted:
	case len(keys) <= few:
		slices.SortStableFunc(s.order, func(a, b int32) int {
			switch {
			case keys[a] < keys[b]:
				return -1
			case keys[a] > keys[b]:
				return 1
			default:
				return 0
			}
		})
	default:
		s.digits(keys, low, uint64(high)-uint64(low))
	}
	return s.order
}

func (s *Sorter) digits(keys []int64, low int64, width uint64) {
	s.from, s.to = slices.Grow(s.from[:0], len(keys)), slices.Grow(s.to[:0], len(keys))[:len(keys)]
	for i, key := range keys {
		s.from = append(s.from, entry{uint64(key) - uint64(low), int32(i)})
	}
	digit := 8
	if len(keys) > 1<<14 {
		digit = 11 // fewer passes, and counts that still fit the nearest cache
	}
	var counts [1 << 11]int32
	for shift := 0; shift < 64 && width>>shift > 0; shift += digit {
		clear(counts[:])
		mask := uint64(1)<<digit - 1
		for i := range s.from {
			counts[s.from[i].key>>shift&mask]++
		}
		total := int32(0)
		for i := range counts[:1<<digit] {
			counts[i], total = total, total+counts[i]
		}
		for i := range s.from {
			at := &counts[s.from[i].key>>shift&mask]
			s.to[*at] = s.from[i]
			*at++
		}
		s.from, s.to = s.to, s.from
	}
	for i := range s.from {
		s.order[i] = s.from[i].index
	}
}

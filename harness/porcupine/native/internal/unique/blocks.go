package unique

import (
	"math"
	"slices"

	"aftershock/native/internal/radix"
)

// block is a maximal chain of values, each derived by compare-and-set from the one before.
type block struct {
	root     int32 // place of its first value
	minEnd   int64 // smallest end of its operations
	maxStart int64 // largest start of its operations
}

// blocks are all of them but the initial value's. `from` says where in time each begins: at its smallest end or its
// largest start, whichever is earlier.
type blocks struct {
	initial block
	all     []block
	from    []int64
}

func (b *blocks) reset(most int) {
	b.all, b.from = slices.Grow(b.all[:0], most), slices.Grow(b.from[:0], most)
}

func (b *blocks) add(one block) {
	if one.root == initial {
		b.initial = one
		return
	}
	b.all = append(b.all, one)
	b.from = append(b.from, min(one.minEnd, one.maxStart))
}

// conflict looks for two blocks that each must come before the other, and returns their first values. A block must
// precede another when one of its operations ended before one of the other's began, so it is a conflict when both
// have an end that is smaller than the other's largest start.
//
// A block is forward when its smallest end is before its largest start: it covers the time between. Two forward
// blocks are in conflict when they overlap; a backward block when it lies within a forward one; two backward ones
// never. Nobody can precede the initial value's virtual writer, so its block covers all time up to its largest start.
func (b *blocks) conflict(sorter *radix.Sorter) (int32, int32) {
	// The last two forward blocks: of those that begin before the current one, the later one is the last or, when
	// that begins at the same time, the one before it.
	nobody := block{root: none, minEnd: math.MinInt64, maxStart: math.MinInt64}
	last, before := nobody, nobody
	if b.initial.minEnd < b.initial.maxStart {
		last, before = b.initial, b.initial
	}
	for _, i := range sorter.Order(b.from) {
		one := &b.all[i]
		if one.minEnd < one.maxStart {
			if one.minEnd < last.maxStart {
				return last.root, one.root
			}
			before, last = last, *one
			continue
		}
		around := &last
		if last.minEnd >= one.maxStart {
			around = &before
		}
		if one.minEnd < around.maxStart {
			return around.root, one.root
		}
	}
	return none, none
}

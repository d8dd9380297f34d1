// Package places finds numbers again: a table from any int64 to a small number, its place.
//
// Interned values and keys are mostly 0, 1, 2, …, and then a plain array serves; anything else goes into an
// open-addressing table with linear probing and multiplicative hashing (Knuth, TAOCP 3, section 6.4). Both are several
// times as fast as Go's map, and their memory is used again.
package places

import "math/bits"

// None is the place of a number that is not in the table.
const None = -1

// Table is empty after Reset, and must not be used before it.
type Table struct {
	low    int64
	direct []int32 // place of low, low + 1, …; used when it is not empty
	slots  []slot  // its length is a power of two
	shift  int
	used   int
}

type slot struct {
	number int64
	place  int32
}

// Reset empties the table for about `count` numbers, all of them within low … high.
func (t *Table) Reset(low, high int64, count int) {
	t.used = 0
	if width := uint64(high) - uint64(low); width < 4*uint64(count)+64 {
		t.low = low
		t.direct = resized(t.direct, int(width)+1)
		for i := range t.direct {
			t.direct[i] = None
		}
		return
	}
	t.direct = t.direct[:0]
	t.grow(max(64, 1<<bits.Len(uint(2*count-1))))
}

func (t *Table) grow(size int) {
	t.slots = resized(t.slots, size)
	t.shift = 64 - bits.TrailingZeros(uint(size))
	for i := range t.slots {
		t.slots[i].place = None
	}
}

// Find returns the place of a number, None when it has none.
func (t *Table) Find(number int64) int32 {
	if len(t.direct) > 0 {
		if i := uint64(number) - uint64(t.low); i < uint64(len(t.direct)) {
			return t.direct[i]
		}
		return None
	}
	return t.at(number).place
}

// Add gives a number its place, unless it has one already: then that is returned, otherwise `place`.
func (t *Table) Add(number int64, place int32) int32 {
	if len(t.direct) > 0 {
		at := &t.direct[uint64(number)-uint64(t.low)]
		if *at == None {
			*at = place
		}
		return *at
	}
	at := t.at(number)
	if at.place != None {
		return at.place
	}
	*at = slot{number, place}
	t.used++
	if 2*t.used > len(t.slots) {
		old := t.slots
		t.slots = nil
		t.grow(2 * len(old))
		for _, one := range old {
			if one.place != None {
				*t.at(one.number) = one
			}
		}
	}
	return place
}

// at returns where a number is, or the free slot where it belongs.
func (t *Table) at(number int64) *slot {
	for i := (uint64(number) * 0x9e3779b97f4a7c15) >> t.shift; ; i++ {
		at := &t.slots[i&uint64(len(t.slots)-1)]
		if at.place == None || at.number == number {
			return at
		}
	}
}

// resized returns a slice of a length, the same memory where it suffices; what it holds is arbitrary.
func resized[T any](slice []T, length int) []T {
	if cap(slice) < length {
		return make([]T, length)
	}
	return slice[:length]
}

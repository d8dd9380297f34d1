package frontier

import "math/bits"

// record is a configuration of the search as words: a word for the state and the unknown operations used, a word for
// the event and a flag, then two sets of slots of open operations.
//
//   - placed: writes, deletes and compare-and-sets that have taken effect.
//   - eased: reads that have been placed; and puts that need not be placed, because another put took effect since they
//     started, and right before that one nobody would have noticed them.
//
// A record is hungry when its last step only makes sense if somebody now looks at the value that it made.
type record []uint64

const headerWords = 2

func (r record) state() int32     { return int32(r[0] >> 32) }
func (r record) used() uint32     { return uint32(r[0]) }
func (r record) event() int       { return int(r[1] >> 1) }
func (r record) hungry() bool     { return r[1]&1 != 0 }
func (r record) placed() []uint64 { return r[headerWords : headerWords+(len(r)-headerWords)/2] }
func (r record) eased() []uint64  { return r[headerWords+(len(r)-headerWords)/2:] }

func (r record) set(state int32, used uint32) { r[0] = uint64(uint32(state))<<32 | uint64(used) }
func (r record) setEvent(event int)           { r[1] = uint64(event)<<1 | r[1]&1 }

func (r record) setHungry(hungry bool) {
	r[1] &^= 1
	if hungry {
		r[1] |= 1
	}
}

// place notes that a write, delete or compare-and-set took effect.
func (r record) place(slot int32) {
	word, bit := split(slot)
	r.placed()[word] |= bit
	r.eased()[word] &^= bit
}

// forget empties a slot.
func (r record) forget(slot int32) {
	word, bit := split(slot)
	r.placed()[word] &^= bit
	r.eased()[word] &^= bit
}

// cover eases every open put that was not placed.
func (r record) cover(c *cursor) {
	placed, eased := r.placed(), r.eased()
	for word, puts := range c.puts {
		eased[word] |= puts &^ placed[word]
	}
}

// owes tells whether a put is open that still has to be placed.
func (r record) owes(c *cursor) bool {
	placed, eased := r.placed(), r.eased()
	for word, puts := range c.puts {
		if puts&^placed[word]&^eased[word] != 0 {
			return true
		}
	}
	return false
}

// absorb places every open operation that only looks, and saw what is there now. Nothing is lost by that: it changes
// nothing, and whatever can follow without it can follow with it. Returns whether there was any.
func (r record) absorb(c *cursor) bool {
	state, eased, any := r.state(), r.eased(), false
	for word, open := range c.open {
		for rest := open &^ c.mutators[word] &^ eased[word]; rest != 0; rest &= rest - 1 {
			of := c.classAt(int32(word<<6 + bits.TrailingZeros64(rest)))
			if (of.kind == look) == (of.to == state) {
				eased[word] |= rest & -rest
				any = true
			}
		}
	}
	return any
}

// split is where a slot is in a set.
func split(slot int32) (word int, bit uint64) { return int(slot >> 6), 1 << (slot & 63) }

func has(set []uint64, slot int32) bool {
	word, bit := split(slot)
	return set[word]&bit != 0
}

// pool holds records of one length, in chunks so that growing copies nothing.
type pool struct {
	length int
	count  int
	chunks [][]uint64
}

const chunkRecords = 1 << 8

func newPool(width int) *pool { return &pool{length: headerWords + 2*width} }

func (p *pool) get(place int) record {
	at := place % chunkRecords * p.length
	return record(p.chunks[place/chunkRecords][at : at+p.length : at+p.length])
}

// add copies a record to the end.
func (p *pool) add(r record) {
	if p.count == len(p.chunks)*chunkRecords {
		p.chunks = append(p.chunks, make([]uint64, chunkRecords*p.length))
	}
	copy(p.get(p.count), r)
	p.count++
}

func (p *pool) bytes() int64 { return int64(len(p.chunks)) * int64(chunkRecords*p.length) * 8 }

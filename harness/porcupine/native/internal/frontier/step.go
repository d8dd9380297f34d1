package frontier

import (
	"math/bits"
	"slices"
)

// Ranks of steps: what a depth-first search tries first.
const (
	rankBest = iota
	rankEnd  // the returning operation is placed
	rankOn
	rankUnknownEnd
	rankUnknownOn
	ranks
)

// stepper finds what can follow a record.
type stepper struct {
	*cursor
	counts *counts
	emit   func(next record, ends bool, rank int)

	next    record  // being built
	pending []int32 // slots of mutators to choose from, one a class
	chosen  []int32 // by class: its slot among them, while a step is looked for, or none
	wanted  []int32 // values that somebody waits for, directly or through unknown compare-and-sets
	isWant  []bool  // by value
}

func newStepper(t *timeline, counts *counts) *stepper {
	return &stepper{
		cursor: newCursor(t), counts: counts, next: make(record, headerWords+2*t.width),
		chosen: slices.Repeat([]int32{none}, len(t.classes)), isWant: make([]bool, len(t.unknownPut)),
	}
}

// settled tells whether the operation that returns has been placed. A record in that case needs no step.
func (s *stepper) settled(r record) bool {
	slot := s.returning()
	if has(s.mutators, slot) {
		return has(r.placed(), slot)
	}
	return has(r.eased(), slot)
}

// expand emits whatever may follow a record in which the returning operation waits. `ends` tells that it no longer
// does.
func (s *stepper) expand(r record) {
	s.choose(r)
	slot := s.returning()
	if has(s.puts, slot) && has(r.eased(), slot) {
		copy(s.next, r)
		s.emit(s.next, true, s.rankOfLeaving(r, slot))
	}
	for _, slot := range s.pending {
		of := s.classAt(slot)
		switch {
		case of.kind == put && !r.hungry():
			s.put(r, slot, of.to)
		case of.kind == swap && of.from == r.state():
			copy(s.next, r)
			s.next.place(slot)
			s.next.set(of.to, r.used())
			s.next.absorb(s.cursor)
			s.next.setHungry(false)
			s.send(rankEnd, rankOn)
		}
	}
	if s.anyBegun > 0 {
		s.expandUnknown(r)
	}
	for _, slot := range s.pending {
		s.chosen[s.ops[s.at[slot]].class] = none
	}
}

// choose lists the open mutators that were not placed. Of those that differ in nothing but their times, only the one
// that ends first: in any order that takes another one now, the two can change places.
func (s *stepper) choose(r record) {
	s.pending = s.pending[:0]
	for word, open := range s.mutators {
		for rest := open &^ r.placed()[word]; rest != 0; rest &= rest - 1 {
			slot := int32(word<<6 + bits.TrailingZeros64(rest))
			op := s.ops[s.at[slot]]
			switch rival := s.chosen[op.class]; {
			case rival == none:
				s.chosen[op.class] = slot
				s.pending = append(s.pending, slot)
			case s.ops[s.at[rival]].end > op.end:
				s.chosen[op.class] = slot
				s.pending[slices.Index(s.pending, rival)] = slot
			}
		}
	}
}

// put places a write or delete: to end, or because somebody waits for its value.
func (s *stepper) put(r record, slot int32, value int32) {
	copy(s.next, r)
	s.next.place(slot)
	s.next.set(value, r.used())
	s.next.cover(s.cursor)
	fed := s.next.absorb(s.cursor)
	if slot != s.returning() {
		if !fed && !s.swapsFrom(value, r.used()) {
			return
		}
		s.next.setHungry(!fed)
		s.send(rankEnd, rankOn)
		return
	}
	free := has(r.eased(), slot)
	if free && !fed && s.lastUse[value] <= int32(s.event) && s.lastAvoid <= int32(s.event) {
		return // it might as well have been overwritten: nobody will ever know
	}
	s.next.setHungry(free && !fed)
	rank := rankEnd
	if free {
		rank = rankEnd + rankBest - s.rankOfLeaving(r, slot)
	}
	s.emit(s.next, true, rank)
}

// rankOfLeaving prefers to leave the state as it is, rather than to place a write that may be left out, when that
// state is looked at before the value of the write is.
func (s *stepper) rankOfLeaving(r record, slot int32) int {
	if s.nextLook(r.state(), s.event) <= s.nextLook(s.classAt(slot).to, s.event) {
		return rankBest
	}
	return rankEnd
}

// send emits the step being built.
func (s *stepper) send(rankEnding, rankOther int) {
	if s.settled(s.next) {
		s.emit(s.next, true, rankEnding)
		return
	}
	s.emit(s.next, false, rankOther)
}

// swapsFrom tells whether a compare-and-set from a value could follow.
func (s *stepper) swapsFrom(value int32, used uint32) bool {
	for _, slot := range s.pending {
		if of := s.classAt(slot); of.kind == swap && of.from == value {
			return true
		}
	}
	for _, unknown := range s.unknownFrom[value] {
		if s.available(unknown, used) {
			return true
		}
	}
	return false
}

package frontier

import "math/bits"

// available tells whether one of a class of unknown operations has started and was not used. Those of a class differ
// in their starts only, so it is enough to count them. One that completed and waits goes first: the two can change
// places in any order.
func (s *stepper) available(unknown int32, used uint32) bool {
	begun := s.begunOf[unknown]
	return begun > 0 && s.chosen[s.unknowns[unknown]] == none && begun > s.counts.get(used, unknown)
}

// expandUnknown lets unknown operations take effect whose value somebody waits for. Any other use could be left out
// (when it is overwritten unseen) or put off (when what follows does not need it).
func (s *stepper) expandUnknown(r record) {
	any := s.want(r)
	if !r.hungry() {
		if any {
			for _, unknown := range s.unknownPuts {
				s.use(r, unknown)
			}
		} else {
			for _, value := range s.wanted {
				if unknown := s.unknownPut[value]; unknown != none {
					s.use(r, unknown)
				}
			}
		}
	}
	for _, unknown := range s.unknownFrom[r.state()] {
		if any || s.isWant[s.classes[s.unknowns[unknown]].to] {
			s.use(r, unknown)
		}
	}
	for _, value := range s.wanted {
		s.isWant[value] = false
	}
	s.wanted = s.wanted[:0]
}

// want collects the values that open operations wait for, and those that unknown compare-and-sets can make into one.
// Returns whether somebody waits for just any other value.
func (s *stepper) want(r record) bool {
	any := false
	for word, open := range s.open {
		waiting := open &^ r.placed()[word] &^ (r.eased()[word] &^ s.mutators[word])
		for rest := waiting; rest != 0; rest &= rest - 1 {
			switch of := s.classAt(int32(word<<6 + bits.TrailingZeros64(rest))); of.kind {
			case look:
				s.add(of.to)
			case swap:
				s.add(of.from)
			case avoid:
				any = true
			}
		}
	}
	for at := 0; at < len(s.wanted); at++ {
		for _, unknown := range s.unknownInto[s.wanted[at]] {
			if s.available(unknown, r.used()) {
				s.add(s.classes[s.unknowns[unknown]].from)
			}
		}
	}
	return any
}

func (s *stepper) add(value int32) {
	if !s.isWant[value] {
		s.isWant[value] = true
		s.wanted = append(s.wanted, value)
	}
}

// use places an unknown operation, if one of its class is left and it makes a difference. Even to put the value that
// is there makes one when a write that was not placed can go unnoticed right before it.
func (s *stepper) use(r record, unknown int32) {
	of := s.classes[s.unknowns[unknown]]
	if of.to == r.state() && !r.owes(s.cursor) || !s.available(unknown, r.used()) {
		return
	}
	copy(s.next, r)
	s.next.set(of.to, s.counts.with(r.used(), unknown, s.counts.get(r.used(), unknown)+1))
	if of.kind == put {
		s.next.cover(s.cursor)
	}
	fed := s.next.absorb(s.cursor)
	if !fed && !s.swapsFrom(of.to, s.next.used()) {
		return
	}
	s.next.setHungry(!fed)
	s.send(rankUnknownEnd, rankUnknownOn)
}

package frontier

// outcome of a search, or of a stage of it.
type outcome int

const (
	outOfSteps outcome = iota // its share of steps is used up
	outOfBudget
	legal
	illegal
)

// search is what depth first and breadth first have in common.
type search struct {
	*stepper
	budget  *budget
	reached int // the last event that any record came to
}

func newSearch(t *timeline, b *budget) *search {
	return &search{stepper: newStepper(t, newCounts(len(t.unknowns))), budget: b, reached: none}
}

// enter takes a record to its event and on, for as long as nothing is to be decided. False when the end is reached.
func (s *search) enter(r record) bool {
	for r.event() < len(s.returns) {
		s.move(r.event())
		if !s.arrive(r) {
			s.reached = max(s.reached, r.event())
			return true
		}
		s.leave(r)
	}
	return false
}

// arrive absorbs what started since the last event. Returns whether that settles the one at hand.
func (s *search) arrive(r record) bool {
	if r.absorb(s.cursor) {
		r.setHungry(false)
	}
	return s.settled(r)
}

// leave takes a record past the return that is settled. What nobody looks at any more becomes one.
func (s *search) leave(r record) {
	r.forget(s.returning())
	state, used := r.state(), r.used()
	for _, unknown := range s.endingAt(r.event()) {
		number := s.counts.get(used, unknown)
		if number == 0 {
			continue
		}
		used = s.counts.with(used, unknown, 0)
		if s.classes[s.unknowns[unknown]].kind == put {
			used = s.counts.with(used, pooled, s.counts.get(used, pooled)+number)
		}
	}
	if s.lastUse[state] <= int32(r.event()) {
		state = other
	}
	r.set(state, used)
	r.setEvent(r.event() + 1)
}

// depth searches one way as far as it goes before it tries the next. What was tried before is remembered by event, so
// that nothing is tried twice.
func (s *search) depth(steps int) outcome {
	stack := newPool(s.width)
	stack.add(make(record, stack.length))
	tried := newMemo(s.width, s.counts)
	found := make([]*pool, ranks)
	for rank := range found {
		found[rank] = newPool(s.width)
	}
	s.emit = func(next record, ends bool, rank int) {
		found[rank].add(next)
		if ends {
			s.leave(found[rank].get(found[rank].count - 1))
		}
	}
	r := make(record, stack.length)
	for ; stack.count > 0; steps-- {
		if steps <= 0 {
			return outOfSteps
		}
		if s.budget.spent(stack.bytes() + tried.bytes() + s.counts.bytes()) {
			return outOfBudget
		}
		stack.count--
		copy(r, stack.get(stack.count))
		if !s.enter(r) {
			return legal
		}
		if !tried.remember(r) {
			continue
		}
		s.expand(r)
		for rank := ranks - 1; rank >= 0; rank-- {
			for ; found[rank].count > 0; found[rank].count-- {
				stack.add(found[rank].get(found[rank].count - 1))
			}
		}
	}
	return illegal
}

// breadth searches all ways at once, event by event, and keeps only what nothing else makes needless.
func (s *search) breadth(steps int) outcome {
	here, there, open := newMemo(s.width, s.counts), newMemo(s.width, s.counts), newMemo(s.width, s.counts)
	spent := func() bool { return s.budget.spent(here.bytes() + there.bytes() + open.bytes() + s.counts.bytes()) }
	r := make(record, here.length)
	here.remember(r)
	settle := func(from record) {
		copy(r, from)
		s.leave(r)
		there.remember(r)
	}
	s.emit = func(next record, ends bool, _ int) {
		if ends {
			settle(next)
		} else {
			open.remember(next)
		}
	}
	for event := range s.returns {
		s.move(event)
		for place := 0; place < here.count && !spent(); place++ {
			switch now := here.get(place); {
			case here.gone[place]:
			case s.arrive(now):
				settle(now)
			default:
				open.remember(now)
			}
		}
		for place := 0; place < open.count && !spent(); place++ {
			if !open.gone[place] {
				s.expand(open.get(place))
			}
		}
		s.reached = event
		steps -= open.count + here.count/copiesPerStep
		switch {
		case s.budget.over:
			return outOfBudget
		case there.count == 0:
			return illegal
		case steps <= 0:
			return outOfSteps
		}
		here.clear()
		open.clear()
		here, there = there, here
	}
	return legal
}

// copiesPerStep is how many records are taken past an event, with nothing to decide, in the time of a step.
const copiesPerStep = 8

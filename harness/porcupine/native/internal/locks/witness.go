package locks

import (
	"cmp"
	"math/bits"
	"slices"

	"aftershock/native/internal/history"
	"aftershock/native/internal/settled"
)

// inOrder puts the sections into an order that their times and tokens allow. If a must precede b and not b a, then
// first(a) < last(b) and last(a) <= first(b), so the sum of the two is smaller for a.
func (d *decider) inOrder() {
	slices.SortFunc(d.sections, func(a, b section) int {
		aHigh, aLow := sum(a.first, a.last)
		bHigh, bLow := sum(b.first, b.last)
		return cmp.Or(cmp.Compare(aHigh, bHigh), cmp.Compare(aLow, bLow), cmp.Compare(a.token, b.token))
	})
}

// sum of two numbers that cannot overflow.
func sum(a, b int64) (high, low uint64) {
	low, high = bits.Add64(uint64(a)^1<<63, uint64(b)^1<<63, 0)
	return high, low
}

// only tells whether the sections can be in no other order: each must precede the next one.
func (d *decider) only() bool {
	for i := 1; i < len(d.sections); i++ {
		if d.sections[i-1].first >= d.sections[i].last {
			return false
		}
	}
	return true
}

// enoughTokens tells whether, in this order, each section that told no token can have had one of its own. If not, it
// names those from one that told its token to the next.
func (d *decider) enoughTokens() bool {
	last := settled.None
	for i := range d.sections {
		if !d.sections[i].told {
			continue
		}
		// Unsigned, since two tokens can be further apart than an int64 holds.
		if last != settled.None && uint64(d.sections[i].token)-uint64(d.sections[last].token) < uint64(i-last) {
			for id := last; id <= i; id++ {
				d.culprits = append(d.culprits, d.operations(int32(id))...)
			}
			return false
		}
		last = i
	}
	return true
}

// gap is a time, without its ends, during which nobody has the lock in this order, at best.
type gap struct{ after, before int64 }

// attempts judges those that found the lock taken. In a given order of sections each acquisition may come right after
// the release before it, so that nobody has the lock only from the end of a release to the start of the next
// acquisition, where that is later; before the first; and after the last, until an unknown acquisition. Where there
// are several orders, an attempt in such a gap is impossible only if it meets nobody who can ever have had the lock.
func (d *decider) attempts(only bool) history.Outcome {
	if len(d.held) == 0 {
		return history.Legal
	}
	gaps, possible, spare := d.gaps(), d.possible(), d.firstSpare()
	outcome := history.Legal
	for _, i := range d.held {
		op := &d.ops[i]
		next, _ := slices.BinarySearchFunc(gaps, op.Start, func(g gap, start int64) int {
			if g.after < start {
				return -1
			}
			return 1
		})
		if next == 0 || op.End >= gaps[next-1].before {
			continue
		}
		if only && op.End < spare || !possible.meets(op) {
			d.culprits = append(d.around(op), int(i))
			return history.Illegal
		}
		outcome = history.NotApplicable
	}
	return outcome
}

func (d *decider) gaps() []gap {
	var gaps []gap
	after := int64(history.Absent) // before the first section: since ever
	for i := range d.sections {
		s := &d.sections[i]
		if start := d.ops[s.acquire].Start; after < start {
			gaps = append(gaps, gap{after, start})
		}
		after = d.released(s)
	}
	if before := d.firstSpare(); after < before {
		gaps = append(gaps, gap{after, before})
	}
	return gaps
}

// released is by when a section is over.
func (d *decider) released(s *section) int64 {
	if s.release == settled.None {
		return history.Open
	}
	return settled.End(&d.ops[s.release])
}

// possible is when somebody can have the lock, whatever the order: by start, and by when all so far are over.
type possible struct{ starts, over []int64 }

func (d *decider) possible() possible {
	var p possible
	for _, id := range settled.Sorted(len(d.sections), func(id int) int64 { return d.ops[d.sections[id].acquire].Start }) {
		s := &d.sections[id]
		p.add(d.ops[s.acquire].Start, d.released(s))
	}
	if spare := d.firstSpare(); spare < history.Open {
		at, _ := slices.BinarySearch(p.starts, spare)
		p.starts, p.over = p.starts[:at], p.over[:at] // from then on, it can have it all the time
		p.add(spare, history.Open)
	}
	return p
}

func (p *possible) add(start, over int64) {
	if last := len(p.over) - 1; last >= 0 {
		over = max(over, p.over[last])
	}
	p.starts, p.over = append(p.starts, start), append(p.over, over)
}

// meets tells whether an attempt can have met anybody who had the lock.
func (p *possible) meets(op *history.Op) bool {
	begun, _ := slices.BinarySearchFunc(p.starts, op.End, func(start, end int64) int {
		if start <= end {
			return -1
		}
		return 1
	})
	return begun > 0 && p.over[begun-1] >= op.Start
}

// firstSpare is when the first unknown acquisition that nothing came of began, Open if there is none.
func (d *decider) firstSpare() int64 {
	first := int64(history.Open)
	for _, i := range d.spare {
		first = min(first, d.ops[i].Start)
	}
	return first
}

// around names the section that was over last before an attempt, and the one that began first after it.
func (d *decider) around(op *history.Op) []int {
	before, after := settled.None, settled.None
	for i := range d.sections {
		s := &d.sections[i]
		if over := d.released(s); over < op.Start && (before < 0 || over > d.released(&d.sections[before])) {
			before = i
		}
		start := d.ops[s.acquire].Start
		if start > op.End && (after < 0 || start < d.ops[d.sections[after].acquire].Start) {
			after = i
		}
	}
	var culprits []int
	for _, id := range []int{before, after} {
		if id >= 0 {
			culprits = append(culprits, d.operations(int32(id))...)
		}
	}
	return culprits
}

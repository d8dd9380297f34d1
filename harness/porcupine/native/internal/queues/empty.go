package queues

import (
	"slices"

	"aftershock/native/internal/settled"
)

// stay is the open interval in which an element is certainly in, or several such that leave no instant between them.
type stay struct{ after, before int64 }

// stays returns when the queue is certainly not empty: intervals without a common instant, by time.
func (d *decider) stays() []stay {
	var merged []stay
	for _, place := range settled.Sorted(len(d.elements), func(place int) int64 { return d.elements[place].inEnd }) {
		e := &d.elements[place]
		if e.inEnd >= e.outStart {
			continue
		}
		// Intervals that only touch leave the instant where they do: one element goes before the next one comes.
		if last := len(merged) - 1; last >= 0 && e.inEnd < merged[last].before {
			merged[last].before = max(merged[last].before, e.outStart)
			continue
		}
		merged = append(merged, stay{after: e.inEnd, before: e.outStart})
	}
	return merged
}

// emptiness looks for a dequeue that found nothing although something was in at every instant of it.
func (d *decider) emptiness() []int {
	if len(d.empty) == 0 {
		return nil
	}
	stays := d.stays()
	for _, i := range d.empty {
		start, end := d.ops[i].Start, d.ops[i].End
		next, _ := slices.BinarySearchFunc(stays, start, func(s stay, instant int64) int {
			if s.after < instant {
				return -1
			}
			return 1
		})
		if next > 0 && end < stays[next-1].before {
			return append(d.cover(start, end), int(i))
		}
	}
	return nil
}

// cover returns the operations on few elements of which some one is in at every instant from `start` to `end`.
func (d *decider) cover(start, end int64) []int {
	var culprits []int
	lost := false
	from := settled.Sorted(len(d.elements), func(place int) int64 { return d.elements[place].inEnd })
	for next, covered := 0, start; ; {
		// Of the elements that are in at the instant up to which all is covered, the one that stays longest.
		best := -1
		for ; next < len(from) && d.elements[from[next]].inEnd < covered; next++ {
			if best < 0 || d.elements[from[next]].outStart > d.elements[best].outStart {
				best = int(from[next])
			}
		}
		e := &d.elements[best]
		if e.lost == settled.None {
			culprits = append(culprits, int(e.enqueue), int(e.dequeue))
		}
		lost = lost || e.lost != settled.None
		if e.outStart > end {
			break
		}
		covered = e.outStart
	}
	if !lost {
		return culprits
	}
	// One more of the lost elements than there are unknown dequeues that can have taken them.
	takers := d.takersBy(end)
	for k := 0; k < len(d.lost) && k <= len(takers); k++ {
		culprits = append(culprits, int(d.elements[d.lost[k]].enqueue))
	}
	return append(culprits, takers...)
}

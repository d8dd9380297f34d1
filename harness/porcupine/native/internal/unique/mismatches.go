package unique

import (
	"math"
	"slices"

	"aftershock/native/internal/history"
)

// period is a time during which a value was certainly there: from the first end of an operation that wrote or saw it
// to the last start of one that saw or replaced it. In a history that is legal otherwise, no two of them overlap.
type period struct {
	place    int32
	from, to int64
}

// mismatches judges compare-and-sets of which is only known that their expected value was not there, in a history
// that is legal without them. One that lies within the period of that value is a contradiction. It fits whatever else
// is true when that value was certainly not there yet or any more. It also fits when it meets the period of another
// value: all that ended before it comes before the end of that period in every order, and all that began after it
// comes after the period's beginning. Else it is not applicable, because it may depend on where something else is put.
func (d *decider) mismatches() (history.Outcome, []int) {
	d.findPeriods()
	ends, latest := d.written()
	outcome := history.Legal
	for _, i := range d.unequal {
		op := &d.ops[i]
		place := d.find(op.Expected)
		if place == none || !d.cells[place].effective || op.End < d.cells[place].start {
			continue // it never was there, or not yet
		}
		c := &d.cells[place]
		over, _ := slices.BinarySearchFunc(ends, op.Start, func(end, start int64) int { return less(end < start) })
		if over > 0 && min(c.end, c.minReadEnd) < latest[over-1] {
			continue // somebody wrote after it was there, and before this
		}
		first, _ := slices.BinarySearchFunc(d.periods, op.Start, func(p period, start int64) int {
			return less(p.to <= start)
		})
		end, _ := slices.BinarySearchFunc(d.periods, op.End, func(p period, end int64) int { return less(p.from < end) })
		met := d.periods[first:max(first, end)]
		if slices.ContainsFunc(met, func(p period) bool { return p.place != place }) {
			continue
		}
		if len(met) == 1 && met[0].from < op.Start && op.End < met[0].to {
			inside := make([]bool, len(d.cells))
			inside[place] = true
			return history.Illegal, append(d.operationsOn(inside), int(i))
		}
		outcome = history.NotApplicable
	}
	return outcome, nil
}

// written returns when the effective changes ended, in order, and of each and those before it the latest start.
func (d *decider) written() (ends, latest []int64) {
	var writers []int32
	var unordered []int64
	for place := 1; place < len(d.cells); place++ {
		if d.cells[place].effective {
			writers = append(writers, int32(place))
			unordered = append(unordered, d.cells[place].end)
		}
	}
	begun := int64(math.MinInt64)
	for _, i := range d.sorter.Order(unordered) {
		begun = max(begun, d.cells[writers[i]].start)
		ends = append(ends, unordered[i])
		latest = append(latest, begun)
	}
	return ends, latest
}

// less is a comparison for a binary search that never finds equality.
func less(yes bool) int {
	if yes {
		return -1
	}
	return 1
}

func (d *decider) findPeriods() {
	var found []period
	var from []int64
	for place := range d.cells {
		c := &d.cells[place]
		p := period{place: int32(place), from: min(c.end, c.minReadEnd), to: max(c.start, c.maxReadStart)}
		if c.next != none {
			p.to = max(p.to, d.cells[c.next].start)
		}
		if c.effective && p.from < p.to {
			found = append(found, p)
			from = append(from, p.from)
		}
	}
	d.periods = d.periods[:0]
	for _, i := range d.sorter.Order(from) {
		d.periods = append(d.periods, found[i])
	}
}

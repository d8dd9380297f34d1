package shrink

import (
	"cmp"
	"slices"

	"aftershock/native/internal/history"
)

// counter: reads go alone. An increment is opened, and goes once nobody can need it. Those that are in every read
// are counted as the base, which is then taken off the reads.
type counter struct{}

// smallCount is up to where a read is explained by showing the increments rather than their number.
const smallCount = 8

func (r counter) keep(c Case, marked []bool) []Case {
	kept := make([]history.Op, 0, len(c.Ops))
	for i := range c.Ops {
		if marked[i] || c.Ops[i].F == history.Increment || c.anchored(&c.Ops[i]) {
			kept = append(kept, c.Ops[i])
		}
	}
	return []Case{tidy(settle(c.with(kept)))}
}

func (r counter) drop(c Case, gone []bool) Case {
	kept := make([]history.Op, 0, len(c.Ops))
	for i, op := range c.Ops {
		if gone[i] && op.F == history.Increment {
			open(&op)
		} else if gone[i] && !c.anchored(&op) {
			continue
		}
		kept = append(kept, op)
	}
	return tidy(settle(c.with(kept)))
}

// settle leaves out increments that are in every read, or that no read can need.
func settle(c Case) Case {
	firstStart, lastEnd, lowest, highest := int64(history.Open), int64(-1<<63), int64(history.Open), int64(-1<<63)
	for i := range c.Ops {
		if op := &c.Ops[i]; op.F == history.Read {
			firstStart, lastEnd = min(firstStart, op.Start), max(lastEnd, op.End)
			lowest, highest = min(lowest, op.Value), max(highest, op.Value)
		}
	}
	if lowest > highest {
		return c
	}
	units := true
	var answered int64
	gone := make([]bool, len(c.Ops))
	for i := range c.Ops {
		op := &c.Ops[i]
		if op.F != history.Increment {
			continue
		}
		units = units && op.Value == 1
		gone[i] = op.Start > lastEnd // every read was over: nobody can have counted it
		if !op.Unknown && !gone[i] {
			answered++
		}
	}
	off := int64(0)
	if units {
		optional := optionalByStart(c, gone)
		useful := min(int64(len(optional)), max(0, mostNeeded(c, gone)))
		for _, i := range optional[useful:] {
			gone[i] = true
		}
		if highest > smallCount {
			// The lowest read needs some of the optional ones, and all later ones have them too: those that could
			// come first, as any of them could take the place of a later one.
			for _, i := range optional[:min(useful, max(0, lowest-answered))] {
				gone[i] = true
				off++
			}
		}
	}
	if highest > smallCount || !units {
		for i := range c.Ops {
			if op := &c.Ops[i]; op.F == history.Increment && !op.Unknown && !gone[i] && op.End < firstStart {
				gone[i] = true
				off += op.Value
			}
		}
	}
	return c.omit(gone).lessBy(off)
}

func optionalByStart(c Case, gone []bool) []int {
	var optional []int
	for i := range c.Ops {
		if c.Ops[i].F == history.Increment && c.Ops[i].Unknown && !gone[i] {
			optional = append(optional, i)
		}
	}
	slices.SortStableFunc(optional, func(a, b int) int { return cmp.Compare(c.Ops[a].Start, c.Ops[b].Start) })
	return optional
}

// mostNeeded is the largest number of optional increments that any read leaves room for, beside those that were over
// when it began. Increments are by one.
func mostNeeded(c Case, gone []bool) int64 {
	var ends []int64
	for i := range c.Ops {
		if c.Ops[i].F == history.Increment && !c.Ops[i].Unknown && !gone[i] {
			ends = append(ends, c.Ops[i].End)
		}
	}
	slices.Sort(ends)
	most := int64(-1 << 63)
	for i := range c.Ops {
		if op := &c.Ops[i]; op.F == history.Read {
			before, _ := slices.BinarySearch(ends, op.Start)
			most = max(most, op.Value-int64(before))
		}
	}
	return most
}

// lessBy takes increments that were left out off the reads.
func (c Case) lessBy(off int64) Case {
	if off == 0 {
		return c
	}
	c.Base += off
	for i := range c.Ops { // a fresh copy: omit made it
		if c.Ops[i].F == history.Read {
			c.Ops[i].Value -= off
		}
	}
	return c
}

// numbered is fetch-and-increment: without an increment, everything that was answered with a larger number, and what
// read it or a larger one, would have been answered with one less. Who made a number of which nobody was told is known
// too: the first such number was made by the first such increment to begin, or could as well have been.
type numbered struct{}

func (r numbered) keep(c Case, marked []bool) []Case {
	gone := make([]bool, len(marked))
	for i := range marked {
		gone[i] = !marked[i]
	}
	return []Case{r.drop(c, gone)}
}

func (numbered) drop(c Case, gone []bool) Case {
	number := made(c)
	var removed []int64
	for i := range c.Ops {
		if c.Ops[i].F != history.Increment {
			continue
		}
		if number[i] == 0 && c.Ops[i].Unknown {
			gone[i] = true // made nothing that anybody was told of
		} else if gone[i] {
			removed = append(removed, number[i])
		}
	}
	slices.Sort(removed)
	kept := c.omit(gone)
	for i := range kept.Ops {
		op := &kept.Ops[i]
		up := op.Value
		if op.F == history.Read {
			up++ // a read of a number came after the increment that made it
		}
		below, _ := slices.BinarySearch(removed, up)
		if !op.Unknown {
			op.Value -= int64(below)
		}
	}
	return tidy(kept)
}

// made tells which number every increment made, 0 for those that need not have happened.
func made(c Case) []int64 {
	number := make([]int64, len(c.Ops))
	told := map[int64]bool{}
	var open []int
	var highest int64
	for i := range c.Ops {
		op := &c.Ops[i]
		switch {
		case op.F != history.Increment:
			highest = max(highest, op.Value)
		case op.Unknown:
			open = append(open, i)
		default:
			number[i] = op.Value
			told[op.Value] = true
			highest = max(highest, op.Value)
		}
	}
	slices.SortStableFunc(open, func(a, b int) int { return cmp.Compare(c.Ops[a].Start, c.Ops[b].Start) })
	next := int64(1)
	for _, i := range open {
		for next <= highest && told[next] {
			next++
		}
		if next > highest {
			break
		}
		number[i] = next
		next++
	}
	return number
}

package shrink

import "aftershock/native/internal/history"

// register: an operation may be left out with all that needed its value. (A linearization of the whole stays one:
// nobody between it and the next write looked.) UNEQUAL may have been true only because of it, and goes along
// then. "Nobody wrote this value" stays a reason only if it was one before: all writers of a needed value are kept.
type register struct {
	versions bool // answers tell the version that they saw, which nobody else made
}

// fewPasses bounds how often all operations are gone through for what a few need; beyond it there is an index.
const fewPasses = 4

func (r register) keep(c Case, marked []bool) []Case {
	values := map[int64]bool{}
	note := func(op *history.Op) bool {
		value, observes := op.Observes()
		if !observes || values[value] {
			return false
		}
		values[value] = true
		return true
	}
	for i := range c.Ops {
		if marked[i] && c.Ops[i].F == history.Unequal {
			r.markExplaining(c, &c.Ops[i], marked)
		}
	}
	more := false
	for i := range c.Ops {
		if marked[i] {
			more = note(&c.Ops[i]) || more
		}
	}
	for range fewPasses {
		if !more {
			return []Case{c.pick(marked)}
		}
		more = false
		for i := range c.Ops {
			if written, writes := c.Ops[i].Writes(); writes && values[written] {
				marked[i] = true
			}
			if marked[i] {
				more = note(&c.Ops[i]) || more
			}
		}
	}
	r.close(c, marked)
	return []Case{c.pick(marked)}
}

// close marks, for every value that a marked operation needs, all writers of it.
func (r register) close(c Case, marked []bool) {
	byValue := map[int64][]int{}
	var waiting []int
	for i := range c.Ops {
		if value, writes := c.Ops[i].Writes(); writes {
			byValue[value] = append(byValue[value], i)
		}
		if marked[i] {
			waiting = append(waiting, i)
		}
	}
	for len(waiting) > 0 {
		i := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		if value, observes := c.Ops[i].Observes(); observes {
			for _, writer := range byValue[value] {
				if !marked[writer] {
					marked[writer] = true
					waiting = append(waiting, writer)
				}
			}
			delete(byValue, value)
		}
	}
}

// completed adds to a part of a case whoever wrote what somebody in it needs.
func (r register) completed(whole, part Case) Case {
	given := make(map[int32]history.Op, len(part.Ops))
	for i := range part.Ops {
		given[part.Ops[i].Row] = part.Ops[i]
	}
	marked := make([]bool, len(whole.Ops))
	for i := range whole.Ops {
		_, marked[i] = given[whole.Ops[i].Row]
	}
	r.close(whole, marked)
	more := whole.pick(marked)
	for i := range more.Ops {
		if as, there := given[more.Ops[i].Row]; there {
			more.Ops[i] = as
		}
	}
	return more
}

func (r register) drop(c Case, gone []bool) Case {
	needers := map[int64][]int{}
	var waiting, unequal []int
	for i := range c.Ops {
		if value, observes := c.Ops[i].Observes(); observes {
			needers[value] = append(needers[value], i)
		}
		if gone[i] {
			waiting = append(waiting, i)
		} else if c.Ops[i].F == history.Unequal {
			unequal = append(unequal, i)
		}
	}
	for len(waiting) > 0 {
		i := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		if value, writes := c.Ops[i].Writes(); writes {
			for _, needer := range needers[value] {
				if !gone[needer] {
					gone[needer] = true
					waiting = append(waiting, needer)
				}
			}
			delete(needers, value)
		}
	}
	for _, u := range unequal {
		last := lastBefore(c, &c.Ops[u], gone)
		for i := range c.Ops {
			if gone[i] && !gone[u] && r.explains(&c.Ops[i], &c.Ops[u]) && !over(c, i, last) {
				gone[u] = true
			}
		}
	}
	return c.omit(gone)
}

// markExplaining marks the changes thanks to which an UNEQUAL may have been true, and the last one before it.
func (r register) markExplaining(c Case, unequal *history.Op, marked []bool) {
	last := lastBefore(c, unequal, nil)
	if last != nobody {
		marked[last] = true
	}
	for i := range c.Ops {
		if r.explains(&c.Ops[i], unequal) && !over(c, i, last) {
			marked[i] = true
		}
	}
}

const nobody = -1

// lastBefore finds, among the operations that stay, the one that changed the key certainly before an UNEQUAL and
// began last.
func lastBefore(c Case, unequal *history.Op, gone []bool) int {
	last := nobody
	for i := range c.Ops {
		op := &c.Ops[i]
		if _, writes := op.Writes(); !writes || op.Unknown || gone != nil && gone[i] || op.End >= unequal.Start {
			continue
		}
		if last == nobody || op.Start > c.Ops[last].Start {
			last = i
		}
	}
	return last
}

// over tells whether a change had certainly been followed by another one, `last`.
func over(c Case, change, last int) bool {
	return last != nobody && c.Ops[change].End < c.Ops[last].Start // that of an unknown one is never over
}

// explains tells whether an UNEQUAL may have been true thanks to a change, going by its value and start.
func (r register) explains(change, unequal *history.Op) bool {
	value, writes := change.Writes()
	if !writes || value == unequal.Expected || change.Start > unequal.End {
		return false
	}
	told := r.versions && unequal.Version != history.NoVersion
	// Without a compare-and-set, what it replaced is there: that is unequal too.
	replaced, observes := change.Observes()
	return told || !observes || replaced == unequal.Expected
}

// writers counts the operations that write a value.
func writers(ops []history.Op, value int64) int {
	count := 0
	for i := range ops {
		if written, writes := ops[i].Writes(); writes && written == value {
			count++
		}
	}
	return count
}

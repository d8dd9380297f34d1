package shrink

import (
	"cmp"
	"slices"

	"aftershock/native/internal/history"
)

// mutex: an acquisition goes with its release, and with every HELD that it may explain. Where a process's operations
// do not alternate, all of them go together.
type mutex struct{}

// section is what goes together; `end` is when it was certainly over.
type section struct {
	ops        []int
	start, end int64
}

func sections(c Case) []section {
	byProcess := map[int64][]int{}
	for i := range c.Ops {
		if c.Ops[i].F != history.Held {
			byProcess[c.Ops[i].Process] = append(byProcess[c.Ops[i].Process], i)
		}
	}
	var found []section
	for _, of := range byProcess {
		slices.SortFunc(of, func(a, b int) int {
			return cmp.Or(cmp.Compare(c.Ops[a].Start, c.Ops[b].Start), cmp.Compare(a, b))
		})
		if !alternate(c, of) {
			found = append(found, newSection(c, of, history.Open))
			continue
		}
		for from := 0; from < len(of); from += 2 {
			pair := of[from:min(from+2, len(of))]
			end := int64(history.Open)
			if len(pair) == 2 {
				end = c.Ops[pair[1]].End
			}
			found = append(found, newSection(c, pair, end))
		}
	}
	return found
}

func newSection(c Case, ops []int, end int64) section {
	return section{ops: ops, start: c.Ops[ops[0]].Start, end: end}
}

func alternate(c Case, of []int) bool {
	for n, i := range of {
		wanted := history.Acquire
		if n%2 == 1 {
			wanted = history.Release
		}
		if c.Ops[i].F != wanted || n > 0 && c.Ops[of[n-1]].End >= c.Ops[i].Start {
			return false
		}
	}
	return true
}

func (mutex) keep(c Case, marked []bool) []Case {
	var helds []*history.Op
	for i := range c.Ops {
		if marked[i] && c.Ops[i].F == history.Held {
			helds = append(helds, &c.Ops[i])
		}
	}
	for _, s := range sections(c) {
		wanted := slices.ContainsFunc(s.ops, func(i int) bool { return marked[i] })
		wanted = wanted || slices.ContainsFunc(helds, func(h *history.Op) bool { return s.explains(h) })
		for _, i := range s.ops {
			marked[i] = wanted
		}
	}
	return []Case{c.pick(marked)}
}

func (mutex) drop(c Case, gone []bool) Case {
	var leaving []section
	for _, s := range sections(c) {
		if !slices.ContainsFunc(s.ops, func(i int) bool { return gone[i] }) {
			continue
		}
		leaving = append(leaving, s)
		for _, i := range s.ops {
			gone[i] = true
		}
	}
	for i := range c.Ops {
		if c.Ops[i].F == history.Held && !gone[i] {
			gone[i] = slices.ContainsFunc(leaving, func(s section) bool { return s.explains(&c.Ops[i]) })
		}
	}
	return tidy(c.omit(gone))
}

// explains tells whether somebody can have found the lock taken because of this section.
func (s section) explains(held *history.Op) bool { return s.start <= held.End && held.Start <= s.end }

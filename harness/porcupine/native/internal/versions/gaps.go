package versions

import (
	"cmp"
	"slices"

	"aftershock/native/internal/history"
)

// Unknown operations never end, so one can be put anywhere before the first operation that ended before it began; a
// change of them takes a version for itself, of which a gap has a limited number. Values are made backwards: the value
// that is needed, by the only unknown operation that can have made it; if that is a compare-and-set, what it
// replaced, and so on until the value of the version before. If plain writes and deletes only can have made a value,
// any will do that began early enough, and so needs that must be met sooner get operations that began sooner.

// maker says who can have made a value without telling its version.
type maker struct {
	operations []int32
	strict     bool   // one of them is a compare-and-set that needed a certain value
	needs      []need // of plain writes and deletes
	takenAt    int    // level whose gap took the compare-and-set; none while it is free
}

// need is for an operation to make a value before the operation `until` ends.
type need struct {
	until int32
	level int
}

// gaps fills what the answered operations leave open. Culprits are operations around a gap that cannot be filled.
func (d *decider) gaps() []int {
	for at := 1; at < len(d.levels); at++ {
		l, before := &d.levels[at], &d.levels[at-1]
		free := l.version - before.version - 1
		if l.maker == none {
			if culprits := d.fill(at, l.value, free+1, l.soonest); culprits != nil {
				return culprits
			}
			continue
		}
		op := &d.ops[l.maker]
		if wanted, observes := op.Observes(); observes && wanted != before.value {
			if culprits := d.fill(at, wanted, free, d.sooner(l.maker, l.soonest)); culprits != nil {
				return culprits
			}
		}
	}
	return d.meet()
}

// fill finds who made a value in the gap before a level, with at most `free` changes, all before `until` ends.
func (d *decider) fill(at int, value, free int64, until int32) []int {
	if d.makers == nil {
		d.collect()
	}
	for ; ; free-- {
		m := d.makers[value]
		if m == nil || free <= 0 {
			return d.around(at, until)
		}
		if !m.strict {
			if len(m.needs) == 0 {
				d.needed = append(d.needed, m)
			}
			m.needs = append(m.needs, need{until: until, level: at})
			return nil
		}
		if len(m.operations) > 1 {
			d.ignored = true // which one it was would have to be guessed
			return nil
		}
		op := &d.ops[m.operations[0]]
		if m.takenAt != none {
			return append(d.around(at, until), d.around(m.takenAt, none)...)
		}
		if op.Start > d.ops[until].End {
			return append(d.around(at, until), int(m.operations[0]))
		}
		m.takenAt = at
		if op.Expected == d.levels[at-1].value {
			return nil
		}
		value = op.Expected
	}
}

// meet gives every need an operation of its own.
func (d *decider) meet() []int {
	for _, m := range d.needed {
		if culprits := d.match(m); culprits != nil {
			return culprits
		}
	}
	return nil
}

func (d *decider) match(m *maker) []int {
	slices.SortFunc(m.needs, func(a, b need) int { return cmp.Compare(d.ops[a.until].End, d.ops[b.until].End) })
	slices.SortFunc(m.operations, func(a, b int32) int { return cmp.Compare(d.ops[a].Start, d.ops[b].Start) })
	for i, one := range m.needs {
		if i < len(m.operations) && d.ops[m.operations[i]].Start <= d.ops[one.until].End {
			continue
		}
		var culprits []int
		for _, other := range m.needs[:i+1] {
			culprits = append(culprits, d.around(other.level, other.until)...)
		}
		return append(culprits, named(m.operations...)...)
	}
	return nil
}

// collect lists who can have made a value without telling.
func (d *decider) collect() {
	d.makers = map[int64]*maker{}
	for i := range d.ops {
		op := &d.ops[i]
		value, writes := op.Writes()
		if !writes || d.version[i] != history.NoVersion {
			continue
		}
		m := d.makers[value]
		if m == nil {
			m = &maker{takenAt: none}
			d.makers[value] = m
		}
		_, observes := op.Observes()
		m.operations = append(m.operations, int32(i))
		m.strict = m.strict || observes
	}
}

// around names operations that tell the values of a level and of the one before it, and `until`.
func (d *decider) around(at int, until int32) []int {
	l, before := &d.levels[at], &d.levels[at-1]
	return named(l.witness, l.maker, before.witness, until)
}

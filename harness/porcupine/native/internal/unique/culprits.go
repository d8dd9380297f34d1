package unique

import (
	"slices"

	"aftershock/native/internal/history"
)

// members lists the operations of the blocks with these first values.
func (d *decider) members(roots ...int32) []int {
	inside := make([]bool, len(d.cells))
	for _, root := range roots {
		for place := root; place != none; place = d.cells[place].next {
			inside[place] = true
		}
	}
	return d.operationsOn(inside)
}

// expand adds to some operations all that touch the values that they need, through every CAS.
func (d *decider) expand(culprits []int) []int {
	inside := make([]bool, len(d.cells))
	add := func(value int64) {
		for place := d.find(value); place != none && !inside[place]; place = d.cells[place].from {
			inside[place] = true
		}
	}
	for _, i := range culprits {
		if value, observes := d.ops[i].Observes(); observes {
			add(value)
		}
		if value, writes := d.ops[i].Writes(); writes {
			add(value)
		}
	}
	found := d.operationsOn(inside)
	for _, i := range culprits {
		if !slices.Contains(found, i) {
			found = append(found, i)
		}
	}
	return found
}

func (d *decider) operationsOn(inside []bool) []int {
	var found []int
	own := initial
	for i := range d.ops {
		op := &d.ops[i]
		touches := false
		if op.F == history.Write || op.F == history.CAS {
			own++
			touches = inside[own]
		}
		if value, observes := op.Observes(); observes && !touches {
			place := d.find(value)
			touches = place != none && inside[place]
		}
		if touches {
			found = append(found, i)
		}
	}
	return found
}

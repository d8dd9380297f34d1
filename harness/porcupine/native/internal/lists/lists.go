// Package lists decides linearizability of a list that is appended to and read as a whole, in linear time but for
// sorting, exactly, for any number of unknown operations, provided that every element somebody saw was appended once.
//
// Reads tell the order: each must begin as the longest one does, and that one names the elements one after the other.
// So all groups are settled (package settled): reads of nothing, the first element's append, reads of one element,
// the second element's append, …, and last the appends that certainly happened and nobody saw. An unknown append took
// effect only if somebody saw its element: leaving it out of a linearization where nobody did changes no answer. The
// idea of reading the order off the longest list is Elle's (Kingsbury & Alvaro, VLDB 2020, section 3).
//
// Elements that nobody saw need not be unique.
package lists

import (
	"slices"

	"aftershock/native/internal/history"
	"aftershock/native/internal/places"
	"aftershock/native/internal/settled"
)

type decider struct {
	ops      []history.Op
	reads    []int32 // indices of operations, shortest list first
	places   *places.Table
	appends  []int32 // indices of operations; their numbers here are the places of elements
	repeated []bool  // the element of that place was appended again
	seen     []bool
}

// Decide judges the operations of one key. Of an illegal history it also returns operations that contradict each
// other: two reads of which none begins as the other does; or two operations and, where both are appends, a read that
// tells their order. Reads need the appends of their elements beside them.
func Decide(ops []history.Op) (history.Outcome, []int) {
	d := &decider{ops: ops}
	if !d.collect() {
		return history.NotApplicable, nil
	}
	if culprits := d.prefixes(); culprits != nil {
		return history.Illegal, culprits
	}
	if outcome, culprits := d.elements(); outcome != history.Legal {
		return outcome, culprits
	}
	if culprits := d.groups(); culprits != nil {
		return history.Illegal, culprits
	}
	return history.Legal, nil
}

// collect sorts out reads and appends; false when there is anything else.
func (d *decider) collect() bool {
	d.places = settled.Table(d.ops, func(op *history.Op) bool { return op.F == history.Append })
	var reads []int32
	for i := range d.ops {
		switch op := &d.ops[i]; op.F {
		case history.ReadAll:
			if settled.Certain(op) {
				reads = append(reads, int32(i))
			}
		case history.Append:
			place := d.places.Add(op.Value, int32(len(d.appends)))
			d.appends = append(d.appends, int32(i))
			d.repeated = append(d.repeated, false)
			d.repeated[place] = int(place) != len(d.appends)-1
		default:
			return false
		}
	}
	d.seen = make([]bool, len(d.appends))
	for _, k := range settled.Sorted(len(reads), func(k int) int64 { return int64(len(d.ops[reads[k]].Items)) }) {
		d.reads = append(d.reads, reads[k])
	}
	return true
}

// longest is the list that every other one must be the beginning of.
func (d *decider) longest() []int64 {
	if len(d.reads) == 0 {
		return nil
	}
	return d.ops[d.reads[len(d.reads)-1]].Items
}

func (d *decider) prefixes() []int {
	longest := d.longest()
	for _, i := range d.reads {
		if items := d.ops[i].Items; !slices.Equal(items, longest[:len(items)]) {
			return []int{int(i), int(d.reads[len(d.reads)-1])}
		}
	}
	return nil
}

// elements finds the append of everything that was seen.
func (d *decider) elements() (history.Outcome, []int) {
	for at, element := range d.longest() {
		place := d.places.Find(element)
		switch {
		case place == places.None:
			return history.Illegal, []int{d.shortest(at)}
		case d.repeated[place]:
			return history.NotApplicable, nil
		case d.seen[place]:
			return history.Illegal, []int{d.shortest(at), int(d.appends[place])}
		}
		d.seen[place] = true
	}
	return history.Legal, nil
}

// shortest returns the shortest read that has the element of a position.
func (d *decider) shortest(position int) int {
	first, _ := slices.BinarySearchFunc(d.reads, position+1, func(read int32, length int) int {
		return len(d.ops[read].Items) - length
	})
	return int(d.reads[first])
}

// groups walks the order that reads have settled.
func (d *decider) groups() []int {
	order := settled.New()
	longest := d.longest()
	next := 0
	for position := 0; position <= len(longest); position++ {
		first := next
		for ; next < len(d.reads) && len(d.ops[d.reads[next]].Items) == position; next++ {
			if by := order.Contradicts(d.ops[d.reads[next]].End); by != settled.None {
				return []int{by, int(d.reads[next])}
			}
		}
		for _, i := range d.reads[first:next] {
			order.Began(int(i), d.ops[i].Start)
		}
		if position == len(longest) {
			break
		}
		i := int(d.appends[d.places.Find(longest[position])])
		if by := order.Contradicts(settled.End(&d.ops[i])); by != settled.None {
			return d.contradiction(by, i)
		}
		order.Began(i, d.ops[i].Start)
	}
	for place, i := range d.appends {
		if by := order.Contradicts(settled.End(&d.ops[i])); !d.seen[place] && by != settled.None {
			return d.contradiction(by, int(i))
		}
	}
	return nil
}

// contradiction is of an append that had ended before something before it in the order began. Where that is an append
// too, the shortest read that has its element tells that it came first.
func (d *decider) contradiction(earlier, later int) []int {
	if d.ops[earlier].F == history.ReadAll {
		return []int{earlier, later}
	}
	position := slices.Index(d.longest(), d.ops[earlier].Value)
	return []int{earlier, later, d.shortest(position)}
}

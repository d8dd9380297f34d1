// Package locks decides linearizability of a mutex, with fencing tokens where answers tell them, in O(n log n) and
// exactly wherever it decides, with unknown operations.
//
// What one process does tells which acquisition each release ended, so that there are sections (sections.go). They are
// blocks that nothing can interrupt, and blocks are ordered by their times alone, as in package unique: section a must
// precede b when something of a ended before something of b began, that is when first(a) < last(b), with `first` the
// smallest end and `last` the largest start. Among any numbers this relation has a circle only if it has one of two
// (that one of the circle with the smallest `first` precedes all, its own predecessor included).
//
// Tokens grow with every acquisition, so sections that told theirs are in order of them. For that, `last` becomes the
// largest of all sections with no larger token, and `first` the smallest of all with no smaller one: a section that
// must precede one must precede those with larger tokens as well. Then the relation of two alone tells again whether
// there is a circle: a step along the tokens followed by a step of the relation is a step of the relation.
//
// Two questions have no fast answer here: whether an attempt that found the lock taken (Held) meets a section that can
// be at several places, and whether there are tokens enough between two told ones for the sections that told none.
// Both are put to one order of the sections. If it fits, it is proof. If not, and the sections can be in no other order
// (as they mostly are, when all acquisitions were answered), that is proof as well; else the decider does not know.
package locks

import (
	"slices"

	"aftershock/native/internal/history"
	"aftershock/native/internal/settled"
)

// section is what a process did between getting the lock and giving it back.
type section struct {
	acquire, release int32 // indices of operations; release is settled.None if it kept the lock
	told             bool
	token            int64
	first, last      int64 // smallest end and largest start: of the section, then for the sake of tokens
	firstBy, lastBy  int32 // of which section these are
}

type decider struct {
	ops      []history.Op
	sections []section
	spare    []int32 // unknown acquisitions that nothing is known to have come of
	held     []int32 // attempts that found the lock taken
	culprits []int
}

// Decide judges the operations of one key. Of an illegal history it also returns operations that contradict each
// other: those of sections, up to four, that cannot be in any order; or what a process did that does not make
// sections; or sections of which some told tokens that leave too few for those between; or an attempt that found the
// lock taken, and the sections around it. Whoever else can have had the lock during it belongs to that, too.
func Decide(ops []history.Op) (history.Outcome, []int) {
	d := &decider{ops: ops}
	if outcome := d.collect(); outcome != history.Legal {
		return outcome, d.culprits
	}
	if !d.tokens() || !d.apart() {
		return history.Illegal, d.culprits
	}
	d.inOrder()
	only := d.only()
	if !d.enoughTokens() {
		if only {
			return history.Illegal, d.culprits
		}
		return history.NotApplicable, nil
	}
	return d.attempts(only), d.culprits
}

// tokens lets sections precede each other in order of theirs; false when two have the same one.
func (d *decider) tokens() bool {
	var told []int32
	for id := range d.sections {
		if d.sections[id].told {
			told = append(told, int32(id))
		}
	}
	order := settled.Sorted(len(told), func(k int) int64 { return d.sections[told[k]].token })
	for k := 1; k < len(order); k++ {
		before, now := &d.sections[told[order[k-1]]], &d.sections[told[order[k]]]
		if before.token == now.token {
			d.culprits = []int{int(before.acquire), int(now.acquire)}
			return false
		}
		if before.last > now.last {
			now.last, now.lastBy = before.last, before.lastBy
		}
	}
	for k := len(order) - 2; k >= 0; k-- {
		after, now := &d.sections[told[order[k+1]]], &d.sections[told[order[k]]]
		if after.first < now.first {
			now.first, now.firstBy = after.first, after.firstBy
		}
	}
	return true
}

// apart tells whether no two sections must each precede the other. Those that take time for certain, from `first` to
// `last`, must not overlap, and none of the others may lie within one of them.
func (d *decider) apart() bool {
	var lasting []int32
	for _, id := range settled.Sorted(len(d.sections), func(id int) int64 { return d.sections[id].first }) {
		s := &d.sections[id]
		if s.first >= s.last {
			continue
		}
		if len(lasting) > 0 && s.first < d.sections[lasting[len(lasting)-1]].last {
			d.collide(lasting[len(lasting)-1], id)
			return false
		}
		lasting = append(lasting, id)
	}
	for id := range d.sections {
		s := &d.sections[id]
		if s.first < s.last {
			continue
		}
		after, _ := slices.BinarySearchFunc(lasting, s.last, func(candidate int32, start int64) int {
			if d.sections[candidate].first < start {
				return -1
			}
			return 1
		})
		if after > 0 && s.first < d.sections[lasting[after-1]].last {
			d.collide(lasting[after-1], int32(id))
			return false
		}
	}
	return true
}

// collide names the operations of the sections that set the bounds of two.
func (d *decider) collide(a, b int32) {
	var named []int32
	for _, id := range []int32{a, b} {
		for _, by := range []int32{d.sections[id].firstBy, d.sections[id].lastBy} {
			if !slices.Contains(named, by) {
				named = append(named, by)
			}
		}
	}
	for _, id := range named {
		d.culprits = append(d.culprits, d.operations(id)...)
	}
}

func (d *decider) operations(id int32) []int {
	s := &d.sections[id]
	if s.release == settled.None {
		return []int{int(s.acquire)}
	}
	return []int{int(s.acquire), int(s.release)}
}

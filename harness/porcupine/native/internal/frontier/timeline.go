package frontier

import (
	"cmp"
	"math"
	"slices"

	"aftershock/native/internal/history"
)

// kind is what an operation is to a register.
type kind uint8

const (
	look  kind = iota // sees the value `to`
	avoid             // sees that the value is not `to`
	put               // makes it `to`, whatever it was
	swap              // makes `from` into `to`
)

// class is what operations have in common that nothing but their times tells apart. Values are places, see `places`.
type class struct {
	kind     kind
	from, to int32
}

// Places of values.
const (
	absent = 0
	// other stands for all values that nothing looks at: no operation can tell them apart.
	other = 1
)

const none = -1

// pooled is the class of unknown operations that put a value that nobody looks at, or will look at any more.
const pooled = 0

// timeline is the history of a key as the search walks it: by returns, each with what started since the one before.
type timeline struct {
	classes []class
	ops     []entry
	started []int32 // operations by start
	until   []int32 // by return: how many of `started` have begun by then
	returns []int32 // completed operations by end
	width   int     // words of a set of open operations

	unknownPut  []int32   // by value: class of unknown operations that put it, or none
	unknownFrom [][]int32 // by value: unknown swaps from it
	unknownInto [][]int32 // by value: unknown swaps into it
	unknowns    []int32   // by class of unknown operations: its class
	unknownPuts []int32   // all classes of unknown operations that put; the first one is `pooled`

	looks     [][]int32 // by value: returns of completed operations that look at it, ascending
	lastUse   []int32   // by value: last return for which it matters that this is the value, and none of the rest
	ending    [][]int32 // by return: classes of unknown operations whose values it is the last to use
	lastAvoid int32     // last return of an operation that avoids some value
}

// entry is an operation on the timeline.
type entry struct {
	class   int32
	unknown int32 // class among the unknown operations, or none for a completed one
	slot    int32 // place in sets of open operations
	end     int32 // its return
	index   int32 // in the history
}

func newTimeline(history []history.Op) *timeline {
	t := &timeline{lastAvoid: none}
	t.classify(history)
	t.order(history)
	t.allot()
	t.foresee()
	return t
}

// classify finds the classes. Values that nothing looks at become one.
func (t *timeline) classify(ops []history.Op) {
	places := map[int64]int32{history.Absent: absent}
	next := int32(other + 1)
	for i := range ops {
		value, looks := ops[i].Observes()
		if ops[i].F == history.Unequal {
			value, looks = ops[i].Expected, true
		}
		if _, known := places[value]; looks && !known {
			places[value] = next
			next++
		}
	}
	place := func(value int64) int32 {
		if at, known := places[value]; known {
			return at
		}
		return other
	}
	t.unknownPut = slices.Repeat([]int32{none}, int(next))
	t.unknownFrom = make([][]int32, next)
	t.unknownInto = make([][]int32, next)
	t.looks = make([][]int32, next)
	t.lastUse = slices.Repeat([]int32{none}, int(next))
	unseen := class{kind: put, to: other}
	known := map[class]int32{unseen: 0}
	knownUnknown := map[class]int32{unseen: pooled}
	t.classes = append(t.classes, unseen)
	t.addUnknown(unseen, 0, pooled)
	for i := range ops {
		c, counts := classOf(&ops[i], place)
		if !counts {
			continue
		}
		id, seen := known[c]
		if !seen {
			id = int32(len(t.classes))
			known[c] = id
			t.classes = append(t.classes, c)
		}
		e := entry{class: id, unknown: none, slot: none, end: math.MaxInt32, index: int32(i)}
		if optional(&ops[i]) {
			if e.unknown, seen = knownUnknown[c]; !seen {
				e.unknown = int32(len(t.unknowns))
				knownUnknown[c] = e.unknown
				t.addUnknown(c, id, e.unknown)
			}
		}
		t.ops = append(t.ops, e)
	}
}

// optional tells whether an operation may never have happened. A weakened write or delete has lost its answer (package
// shrink); a weakened compare-and-set writes, whatever was there.
func optional(op *history.Op) bool {
	return op.Unknown || op.Weakened && op.F != history.CAS && !op.F.Observes()
}

// classOf is the class of an operation; false for one that says nothing and changes nothing.
func classOf(op *history.Op, place func(int64) int32) (class, bool) {
	from, looks := op.Observes()
	to, writes := op.Writes()
	switch {
	case optional(op) && (!writes || looks && from == to):
		return class{}, false
	case op.F == history.Unequal:
		return class{kind: avoid, to: place(op.Expected)}, true
	case looks && writes && from != to:
		return class{kind: swap, from: place(from), to: place(to)}, true
	case looks:
		return class{kind: look, to: place(from)}, true
	default:
		return class{kind: put, to: place(to)}, true
	}
}

func (t *timeline) addUnknown(c class, id, unknown int32) {
	t.unknowns = append(t.unknowns, id)
	if c.kind == put {
		t.unknownPut[c.to] = unknown
		t.unknownPuts = append(t.unknownPuts, unknown)
		return
	}
	t.unknownFrom[c.from] = append(t.unknownFrom[c.from], unknown)
	t.unknownInto[c.to] = append(t.unknownInto[c.to], unknown)
}

// order lines up starts and returns. Intervals are closed: who starts when another ends is concurrent with it.
func (t *timeline) order(ops []history.Op) {
	for at := range t.ops {
		t.started = append(t.started, int32(at))
		if t.ops[at].unknown == none {
			t.returns = append(t.returns, int32(at))
		}
	}
	start := func(at int32) int64 { return ops[t.ops[at].index].Start }
	end := func(at int32) int64 { return ops[t.ops[at].index].End }
	slices.SortFunc(t.started, func(a, b int32) int { return cmp.Or(cmp.Compare(start(a), start(b)), cmp.Compare(a, b)) })
	slices.SortFunc(t.returns, func(a, b int32) int { return cmp.Or(cmp.Compare(end(a), end(b)), cmp.Compare(a, b)) })
	begun := 0
	for event, at := range t.returns {
		t.ops[at].end = int32(event)
		for begun < len(t.started) && start(t.started[begun]) <= end(at) {
			begun++
		}
		t.until = append(t.until, int32(begun))
	}
}

// allot gives every completed operation a slot that nobody else has while it is open.
func (t *timeline) allot() {
	var free []int32
	slots := int32(0)
	for event, at := range t.returns {
		for _, begun := range t.begun(event) {
			if t.ops[begun].unknown != none {
				continue
			}
			if len(free) == 0 {
				free = append(free, slots)
				slots++
			}
			t.ops[begun].slot = free[len(free)-1]
			free = free[:len(free)-1]
		}
		free = append(free, t.ops[at].slot)
	}
	t.width = max(1, (int(slots)+63)/64)
}

// begun are the operations that started between a return and the one before it.
func (t *timeline) begun(event int) []int32 {
	first := int32(0)
	if event > 0 {
		first = t.until[event-1]
	}
	return t.started[first:t.until[event]]
}

// foresee notes when which values are looked at, and from when on they are like any other.
func (t *timeline) foresee() {
	for event, at := range t.returns {
		c := t.classes[t.ops[at].class]
		switch c.kind {
		case look:
			t.looks[c.to] = append(t.looks[c.to], int32(event))
			t.lastUse[c.to] = int32(event)
		case swap:
			t.looks[c.from] = append(t.looks[c.from], int32(event))
			t.lastUse[c.from] = int32(event)
		case avoid:
			t.lastUse[c.to] = int32(event)
			t.lastAvoid = int32(event)
		}
	}
	if len(t.unknowns) == 1 {
		return
	}
	t.inherit()
	t.ending = make([][]int32, len(t.returns))
	for unknown := range t.unknowns {
		if end := t.endOf(int32(unknown)); unknown != pooled && end != none {
			t.ending[end] = append(t.ending[end], int32(unknown))
		}
	}
}

// inherit makes a value as long in use as the values that unknown compare-and-sets make of it.
func (t *timeline) inherit() {
	waiting := make([]int32, len(t.lastUse))
	for value := range waiting {
		waiting[value] = int32(value)
	}
	for len(waiting) > 0 {
		value := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		for _, unknown := range t.unknownInto[value] {
			from := t.classes[t.unknowns[unknown]].from
			if t.lastUse[from] < t.lastUse[value] {
				t.lastUse[from] = t.lastUse[value]
				waiting = append(waiting, from)
			}
		}
	}
}

// endOf is the return after which a class of unknown operations is like `pooled`, if it puts, or good for nothing: once
// nobody looks at what a compare-and-set makes, and nobody waits for what it replaces to go.
func (t *timeline) endOf(unknown int32) int32 {
	c := t.classes[t.unknowns[unknown]]
	if c.kind == swap {
		return t.lastUse[c.from]
	}
	return t.lastUse[c.to]
}

// endingAt are the classes of unknown operations that end with a return.
func (t *timeline) endingAt(event int) []int32 {
	if t.ending == nil {
		return nil
	}
	return t.ending[event]
}

// nextLook is the first return after an event of an operation that looks at a value.
func (t *timeline) nextLook(value int32, event int) int32 {
	at, _ := slices.BinarySearch(t.looks[value], int32(event+1))
	if at == len(t.looks[value]) {
		return math.MaxInt32
	}
	return t.looks[value][at]
}

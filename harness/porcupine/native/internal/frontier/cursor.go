package frontier

// cursor is a place on the timeline: which operations are open there, and how many unknown ones have started.
// It moves in both directions. At an event, the operation that returns is still open.
type cursor struct {
	*timeline
	event    int
	open     []uint64 // set of slots
	mutators []uint64 // those of them whose operations may change the value
	puts     []uint64 // those of them that put
	at       []int32  // by slot: the operation
	begunOf  []uint32 // by class of unknown operations: how many have started
	endedAt  []uint32 // by class of unknown operations: how many had started when it ended, see `ending`
	anyBegun int
}

func newCursor(t *timeline) *cursor {
	c := &cursor{
		timeline: t, event: -1, at: make([]int32, 64*t.width), begunOf: make([]uint32, len(t.unknowns)),
		endedAt: make([]uint32, len(t.unknowns)),
		open:    make([]uint64, t.width), mutators: make([]uint64, t.width), puts: make([]uint64, t.width),
	}
	return c
}

// move goes to an event.
func (c *cursor) move(event int) {
	for c.event < event {
		if c.event >= 0 {
			c.close(c.returns[c.event])
			c.end(c.event)
		}
		c.event++
		for _, op := range c.begun(c.event) {
			if unknown := c.ops[op].unknown; unknown != none {
				c.begunOf[c.nowLike(unknown)]++
				c.anyBegun++
			} else {
				c.reopen(op)
			}
		}
	}
	for c.event > event {
		for _, op := range c.begun(c.event) {
			if unknown := c.ops[op].unknown; unknown != none {
				c.begunOf[c.nowLike(unknown)]--
				c.anyBegun--
			} else {
				c.close(op)
			}
		}
		c.event--
		c.unend(c.event)
		c.reopen(c.returns[c.event])
	}
}

// nowLike is the class that an unknown operation counts for that starts before this event.
func (c *cursor) nowLike(unknown int32) int32 {
	if c.classes[c.unknowns[unknown]].kind == put && c.endOf(unknown) < int32(c.event) {
		return pooled
	}
	return unknown
}

// end moves to the pool what is as good as it after an event, and drops what is good for nothing.
func (c *cursor) end(event int) {
	for _, unknown := range c.endingAt(event) {
		begun := c.begunOf[unknown]
		c.endedAt[unknown] = begun
		c.begunOf[unknown] = 0
		if c.classes[c.unknowns[unknown]].kind == put {
			c.begunOf[pooled] += begun
		}
	}
}

func (c *cursor) unend(event int) {
	for _, unknown := range c.endingAt(event) {
		c.begunOf[unknown] = c.endedAt[unknown]
		if c.classes[c.unknowns[unknown]].kind == put {
			c.begunOf[pooled] -= c.endedAt[unknown]
		}
	}
}

func (c *cursor) close(op int32) {
	word, bit := split(c.ops[op].slot)
	c.open[word] &^= bit
	c.mutators[word] &^= bit
	c.puts[word] &^= bit
}

func (c *cursor) reopen(op int32) {
	word, bit := split(c.ops[op].slot)
	c.open[word] |= bit
	c.at[c.ops[op].slot] = op
	switch c.classes[c.ops[op].class].kind {
	case put:
		c.puts[word] |= bit
		c.mutators[word] |= bit
	case swap:
		c.mutators[word] |= bit
	}
}

// returning is the slot of the operation that returns at the event.
func (c *cursor) returning() int32 { return c.ops[c.returns[c.event]].slot }

// classAt is the class of the operation in a slot.
func (c *cursor) classAt(slot int32) class { return c.classes[c.ops[c.at[slot]].class] }

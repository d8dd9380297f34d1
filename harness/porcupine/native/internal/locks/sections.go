package locks

import (
	"cmp"
	"slices"

	"aftershock/native/internal/history"
	"aftershock/native/internal/settled"
)

// collect makes sections of what each process did: acquire, release, acquire, release, … Only its own release ends a
// section, so a process whose operations were all answered has no other way.
//
// An unknown operation that fits in took effect there if the next one was answered, since that one is possible only
// then. At the end of what a process did, an unknown release takes effect, at whatever later time suits (keeping the
// lock is no better: nothing could come after). An unknown acquisition there is left out, with what follows: that
// frees the lock for others, and nobody but an attempt that found it taken (Held) can have seen a difference.
//
// NotApplicable where a process did several things at a time, or unknown operations do not fit in.
func (d *decider) collect() history.Outcome {
	var order []int32
	for i := range d.ops {
		switch op := &d.ops[i]; {
		case op.F == history.Acquire || op.F == history.Release:
			order = append(order, int32(i))
		case op.F != history.Held:
			return history.NotApplicable
		case !op.Unknown:
			d.held = append(d.held, int32(i))
		}
	}
	slices.SortFunc(order, func(a, b int32) int {
		x, y := &d.ops[a], &d.ops[b]
		return cmp.Or(cmp.Compare(x.Process, y.Process), cmp.Compare(x.Start, y.Start), cmp.Compare(over(x), over(y)), cmp.Compare(a, b))
	})
	outcome := history.Legal
	for first := 0; first < len(order); {
		next := first
		for next < len(order) && d.ops[order[next]].Process == d.ops[order[first]].Process {
			next++
		}
		switch d.process(order[first:next]) {
		case history.Illegal:
			return history.Illegal
		case history.NotApplicable:
			outcome = history.NotApplicable
		}
		first = next
	}
	return outcome
}

// over is when the process can have gone on: an unknown operation does not tell when it gave up.
func over(op *history.Op) int64 {
	if settled.Certain(op) {
		return op.End
	}
	return op.Start
}

// process makes the sections of one process, whose operations are sorted by start.
func (d *decider) process(did []int32) history.Outcome {
	answered := len(did) // from here on, nothing was
	for answered > 0 && !settled.Certain(&d.ops[did[answered-1]]) {
		answered--
	}
	strict, sequential := d.oneByOne(did)
	if !sequential {
		return history.NotApplicable
	}
	current := settled.None // the section it is in
	for k, i := range did[:answered] {
		op := &d.ops[i]
		certain := settled.Certain(op)
		fits := (op.F == history.Acquire) == (current == settled.None)
		if !fits && strict {
			d.culprits = d.misfit(did[:k+1])
			return history.Illegal
		}
		if !fits || !certain && !settled.Certain(&d.ops[did[k+1]]) {
			return history.NotApplicable
		}
		if op.F == history.Acquire {
			current = d.open(i)
		} else {
			d.close(current, i)
			current = settled.None
		}
	}
	for _, i := range did[answered:] {
		switch {
		case d.ops[i].F == history.Acquire:
			d.spare = append(d.spare, i)
		case current != settled.None:
			d.close(current, i)
			current = settled.None
		}
	}
	return history.Legal
}

// oneByOne tells whether a process did one thing after the other. Two answered operations that touch may be the other
// way round, which then does not fit in. But it may if the next one touches as well, or if an unknown operation fits
// in differently; then nothing is settled. It is strict if all were answered and none touch.
func (d *decider) oneByOne(did []int32) (strict, sequential bool) {
	answered, apart := true, true
	for k, i := range did {
		until := over(&d.ops[i])
		answered = answered && settled.Certain(&d.ops[i])
		if k+1 < len(did) {
			start := d.ops[did[k+1]].Start
			if until > start || k+2 < len(did) && until >= d.ops[did[k+2]].Start {
				return false, false
			}
			apart = apart && until < start
		}
	}
	return answered && apart, answered || apart
}

// misfit names the last operation and what left the process where it is impossible: an acquisition, and the release
// that ended that one already.
func (d *decider) misfit(did []int32) []int {
	needed := 2
	if d.ops[did[len(did)-1]].F == history.Release {
		needed = 3
	}
	var culprits []int
	for _, i := range did[max(0, len(did)-needed):] {
		culprits = append(culprits, int(i))
	}
	return culprits
}

func (d *decider) open(acquire int32) int {
	op := &d.ops[acquire]
	id := len(d.sections)
	d.sections = append(d.sections, section{
		acquire: acquire, release: settled.None,
		told: settled.Certain(op) && op.Value != history.Absent, token: op.Value,
		first: settled.End(op), last: history.Open, firstBy: int32(id), lastBy: int32(id),
	})
	return id
}

func (d *decider) close(id int, release int32) {
	s := &d.sections[id]
	op := &d.ops[release]
	s.release = release
	s.first = min(s.first, settled.End(op))
	s.last = max(d.ops[s.acquire].Start, op.Start)
}

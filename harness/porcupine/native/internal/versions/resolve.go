package versions

import "aftershock/native/internal/history"

// occurrence is what is known of a value.
type occurrence struct {
	version  int64 // that has it, if `versions` is 1
	versions int   // how many have it, up to 2
	makers   int   // answered operations that told which version they made
	others   int   // operations that may have made it, at a version that is not known
}

func (o *occurrence) at(version int64) {
	if o.versions == 0 || o.versions == 1 && o.version != version {
		o.versions++
	}
	o.version = version
}

// resolve gives every operation its version. An answer that told none has one nevertheless where its value occurs at
// one version only: a read saw that, and a write made it if nobody else can have. Otherwise a read is ignored, and a
// change counts as one that may have happened at any time from its start on, so that "illegal" stays true.
func (d *decider) resolve() {
	d.version = d.version[:0]
	silent := false
	for i := range d.ops {
		op := &d.ops[i]
		version := op.Version
		switch op.F {
		case history.Read, history.Write, history.CAS, history.Delete, history.Unequal:
			silent = silent || !op.Unknown && version == history.NoVersion
		default:
			version, d.ignored = history.NoVersion, true
		}
		if op.Unknown {
			version = history.NoVersion
		}
		d.version = append(d.version, version)
	}
	if !silent {
		return
	}
	found := d.occurrences()
	for i := range d.ops {
		op := &d.ops[i]
		if op.Unknown || d.version[i] != history.NoVersion || op.F != history.Write && op.F != history.CAS {
			continue
		}
		if o := found[op.Value]; o.versions == 1 && o.makers == 0 && o.others == 1 {
			d.version[i], o.others = o.version, 0
		} else {
			d.ignored = true
		}
	}
	for i := range d.ops {
		op := &d.ops[i]
		if op.Unknown || d.version[i] != history.NoVersion {
			continue
		}
		if o := found[op.Value]; op.F == history.Read && o != nil && o.versions == 1 && o.others == 0 {
			d.version[i] = o.version
		} else {
			d.ignored = true
		}
	}
}

func (d *decider) occurrences() map[int64]*occurrence {
	found := map[int64]*occurrence{history.Absent: {versions: 1}}
	of := func(value int64) *occurrence {
		o := found[value]
		if o == nil {
			o = &occurrence{}
			found[value] = o
		}
		return o
	}
	for i := range d.ops {
		op := &d.ops[i]
		value, writes := op.Writes()
		switch {
		case !writes && op.F != history.Read:
		case writes && d.version[i] == history.NoVersion:
			of(value).others++
		case writes:
			of(value).makers++
			of(value).at(d.version[i])
		case d.version[i] != history.NoVersion:
			of(op.Value).at(d.version[i])
		}
	}
	return found
}

package spec

import "aftershock/native/internal/history"

// register with read, write and delete, and with compare-and-set if asked. Its state is the value; versions are not
// looked at.
func register(withCAS bool) specification {
	return specification{
		initial: int64(history.Absent),
		hash:    func(state interface{}) uint64 { return mix(state.(int64)) },
		prepare: func(op *history.Op, _ bool) step {
			switch op.F {
			case history.Read:
				return observe(func(state interface{}) bool { return state.(int64) == op.Value })
			case history.Write, history.Delete:
				return write(op)
			case history.Unequal:
				if withCAS {
					return observe(func(state interface{}) bool { return state.(int64) != op.Expected })
				}
			case history.CAS:
				if withCAS && op.Weakened {
					return write(op)
				}
				if withCAS {
					var after interface{} = op.Value // boxed once, not at every try
					return func(before interface{}) (bool, interface{}) { return before.(int64) == op.Expected, after }
				}
			}
			return nil
		},
	}
}

func write(op *history.Op) step {
	value, _ := op.Writes()
	var after interface{} = value
	return func(interface{}) (bool, interface{}) { return true, after }
}

// versioned is the state of a register with versions. The version is exact, or at least `version` where the answer
// that would tell was never seen.
type versioned struct {
	value   int64
	version int64
	exact   bool
}

// keyValue is the register to which each change gives a larger version, and answers tell the one they saw or made.
func keyValue() specification {
	return specification{
		initial: versioned{value: history.Absent, exact: true},
		hash: func(state interface{}) uint64 {
			now := state.(versioned)
			return mix(now.value) ^ mix(now.version)<<1
		},
		prepare: func(op *history.Op, optional bool) step {
			told := op.Version != history.NoVersion && !optional
			switch op.F {
			case history.Read, history.Unequal:
				return func(before interface{}) (bool, interface{}) { return sawVersion(before.(versioned), op, told) }
			case history.Write, history.CAS, history.Delete:
				return func(before interface{}) (bool, interface{}) { return madeVersion(before.(versioned), op, told) }
			default:
				return nil
			}
		},
	}
}

func matches(state versioned, op *history.Op) bool {
	wanted, observes := op.Observes()
	if op.F == history.Unequal {
		return state.value != op.Expected
	}
	return !observes || state.value == wanted
}

// sawVersion is an operation that left value and version as they were.
func sawVersion(before versioned, op *history.Op, told bool) (bool, interface{}) {
	switch {
	case !matches(before, op):
		return false, before
	case !told:
		return true, before
	case before.exact:
		return op.Version == before.version, before
	default:
		return op.Version >= before.version, versioned{value: before.value, version: op.Version, exact: true}
	}
}

func madeVersion(before versioned, op *history.Op, told bool) (bool, interface{}) {
	if !matches(before, op) {
		return false, before
	}
	if op.F == history.Delete && before.value == history.Absent {
		// Deleting what is absent may leave the version as it is.
		if !told {
			before.exact = false
			return true, before
		}
		if same, after := sawVersion(before, op, told); same {
			return true, after
		}
	}
	value, _ := op.Writes()
	lowest := before.version + 1
	if !told {
		return true, versioned{value: value, version: lowest}
	}
	return op.Version >= lowest, versioned{value: value, version: op.Version, exact: true}
}

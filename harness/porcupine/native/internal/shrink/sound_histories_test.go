package shrink

import (
	"math/rand"
	"slices"

	"aftershock/native/internal/history"
)

// A legal history is made by doing one operation after another to a machine that obeys the model, and by stretching
// each to both sides of the moment at which it happened: what it was answered is then explained by that order.

// fate is what becomes of an operation that changes something; one that only looks is always answered.
type fate int

const (
	answered fate = iota
	lost          // it happened, and nobody was told
	refused       // it never happened, and nobody was told
)

// machine does an operation that it chooses by chance, unless it is refused, and says what it was and answered.
type machine func(r *rand.Rand, becomes fate) history.Op

// machines has a maker of fresh machines for every model. Values are few, so that they repeat and collide.
var machines = map[history.Model]func(r *rand.Rand) machine{
	history.Register: func(*rand.Rand) machine {
		return registerMachine(history.Read, history.Read, history.Write, history.Write, history.Delete)
	},
	history.CASRegister:       func(*rand.Rand) machine { return casMachine() },
	history.KeyValue:          func(*rand.Rand) machine { return keyValueMachine() },
	history.Set:               func(*rand.Rand) machine { return setMachine() },
	history.Queue:             func(*rand.Rand) machine { return queueMachine() },
	history.Counter:           counterMachine,
	history.FetchAndIncrement: func(*rand.Rand) machine { return fetchAndIncrementMachine() },
	history.Mutex:             func(*rand.Rand) machine { return mutexMachine() },
	history.ListAppend:        func(*rand.Rand) machine { return listMachine() },
	history.Bank:              func(*rand.Rand) machine { return bankMachine() },
}

// balances are what the accounts of every bank start with: account and balance in turn.
var balances = []int64{0, 10, 1, 5, 2, 0}

// mostOps is short enough for Porcupine to decide in microseconds.
const mostOps = 9

// legalHistory returns operations that are legal by construction, in any order: no step may rely on one.
func legalHistory(r *rand.Rand, model history.Model) Case {
	do := machines[model](r)
	length := 2 + r.Intn(mostOps-1)
	if model == history.Counter && r.Intn(2) == 0 {
		length += smallCount // the base is only taken off larger counts
	}
	var ops []history.Op
	for row := range length {
		becomes := answered
		if r.Intn(5) == 0 {
			becomes = lost + fate(r.Intn(2))
		}
		op := do(r, becomes)
		op.Row = int32(row)
		if model != history.Mutex {
			op.Process = int64(row)
		}
		if becomes != answered && !op.F.Observes() {
			open(&op)
		}
		ops = append(ops, op)
	}
	stretch(r, ops)
	r.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	c := Case{Ops: history.Effective(ops, model)}
	if model == history.Bank {
		c.Initial = slices.Clone(balances)
	}
	return c
}

// stretch gives operations that happened in this order intervals around that moment, from hardly to all concurrent.
// A process does one at a time.
func stretch(r *rand.Rand, ops []history.Op) {
	spread := []int{0, 3, 8, 20}[r.Intn(4)]
	last, happened := map[int64]*history.Op{}, map[int64]int64{}
	moment := int64(0)
	for i := range ops {
		op := &ops[i]
		moment += int64(r.Intn(5)) // at the same moment each may have been first: intervals that touch are concurrent
		previous := last[op.Process]
		if previous != nil && happened[op.Process] == moment {
			moment++
		}
		before := spread
		if op.Unknown {
			before *= 3 // nobody waited for it, so that it may have happened long after it began
		} else {
			op.End = moment + int64(r.Intn(spread+1))
		}
		op.Start = moment - int64(r.Intn(before+1))
		if previous != nil {
			previous.End = min(previous.End, moment-1)
			op.Start = max(op.Start, previous.End+1)
		}
		last[op.Process], happened[op.Process] = op, moment
	}
}

// value is in half of the cases one that is written often.
func value(r *rand.Rand, fresh *int64) int64 {
	if r.Intn(2) == 0 {
		return int64(1 + r.Intn(3))
	}
	*fresh++
	return 100 + *fresh
}

func registerMachine(functions ...history.F) machine {
	now, fresh := int64(history.Absent), int64(0)
	return func(r *rand.Rand, becomes fate) history.Op {
		op := history.Op{F: functions[r.Intn(len(functions))], Version: history.NoVersion}
		switch op.F {
		case history.Read:
			op.Value = now
		case history.Unequal:
			op.Expected = otherThan(r, now)
		case history.CAS:
			op.Expected = now
			if becomes == refused {
				op.Expected = otherThan(r, now)
			}
			op.Value = value(r, &fresh)
		case history.Write:
			op.Value = value(r, &fresh)
		}
		if written, writes := op.Writes(); writes && becomes != refused {
			now = written
		}
		return op
	}
}

func otherThan(r *rand.Rand, now int64) int64 {
	others := slices.DeleteFunc([]int64{history.Absent, 1, 2, 3}, func(v int64) bool { return v == now })
	return others[r.Intn(len(others))]
}

func casMachine() machine {
	return registerMachine(history.Read, history.Read, history.Write, history.CAS, history.Delete, history.Unequal)
}

// keyValueMachine adds versions, which not every answer tells.
func keyValueMachine() machine {
	register := casMachine()
	version, absent := int64(0), true
	return func(r *rand.Rand, becomes fate) history.Op {
		op := register(r, becomes)
		told := version
		_, changes := op.Writes()
		if nothing := op.F == history.Delete && absent && r.Intn(2) == 0; changes && !nothing {
			told += int64(1 + r.Intn(2))
		}
		if r.Intn(3) > 0 {
			op.Version = told
		}
		if changes && becomes != refused {
			version, absent = told, op.F == history.Delete
		}
		return op
	}
}

func setMachine() machine {
	var members []int64
	return func(r *rand.Rand, becomes fate) history.Op {
		op := history.Op{F: history.Add, Value: int64(1 + r.Intn(4)), Version: history.NoVersion}
		there := slices.Contains(members, op.Value)
		switch r.Intn(4) {
		case 0:
			op.F = history.Contains
			if there {
				op.Expected = 1
			}
		case 1:
			op.F, op.Value, op.Items = history.ReadAll, 0, slices.Clone(members)
		default:
			if becomes != refused && !there {
				members = append(members, op.Value)
			}
		}
		return op
	}
}

func listMachine() machine {
	var elements []int64
	fresh := int64(0)
	return func(r *rand.Rand, becomes fate) history.Op {
		if r.Intn(2) == 0 {
			return history.Op{F: history.ReadAll, Items: slices.Clone(elements), Version: history.NoVersion}
		}
		op := history.Op{F: history.Append, Value: value(r, &fresh), Version: history.NoVersion}
		if becomes != refused {
			elements = append(elements, op.Value)
		}
		return op
	}
}

func queueMachine() machine {
	var elements []int64
	fresh := int64(0)
	return func(r *rand.Rand, becomes fate) history.Op {
		op := history.Op{F: history.Enqueue, Version: history.NoVersion}
		if r.Intn(2) == 0 {
			op.Value = value(r, &fresh)
			if becomes != refused {
				elements = append(elements, op.Value)
			}
			return op
		}
		op.F, op.Value = history.Dequeue, history.Absent
		if len(elements) > 0 && becomes != refused {
			op.Value, elements = elements[0], elements[1:]
		}
		return op
	}
}

// counterMachine counts by one in half of the cases, which is shrunk in other ways than counting by any amount.
func counterMachine(r *rand.Rand) machine {
	count := int64(0)
	units := r.Intn(2) == 0
	return func(r *rand.Rand, becomes fate) history.Op {
		if r.Intn(3) == 0 {
			return history.Op{F: history.Read, Value: count, Version: history.NoVersion}
		}
		op := history.Op{F: history.Increment, Value: 1, Version: history.NoVersion}
		if !units {
			op.Value = int64(r.Intn(4) - 1)
		}
		if becomes != refused {
			count += op.Value
		}
		return op
	}
}

func fetchAndIncrementMachine() machine {
	count := int64(0)
	return func(r *rand.Rand, becomes fate) history.Op {
		if r.Intn(3) == 0 {
			return history.Op{F: history.Read, Value: count, Version: history.NoVersion}
		}
		if becomes != refused {
			count++
		}
		op := history.Op{F: history.Increment, Version: history.NoVersion}
		if becomes == answered {
			op.Value = count
		}
		return op
	}
}

// mutexMachine is a lock of three processes. One that was not answered does nothing any more, so that the lock may
// stay taken.
func mutexMachine() machine {
	const nobodyHolds = -1
	holder, token, fresh := int64(nobodyHolds), int64(0), int64(3)
	alive := []int64{0, 1, 2}
	die := func(process int64) {
		alive = append(slices.DeleteFunc(alive, func(p int64) bool { return p == process }), fresh)
		fresh++
	}
	return func(r *rand.Rand, becomes fate) history.Op {
		op := history.Op{F: history.Held, Process: alive[r.Intn(len(alive))], Version: history.NoVersion}
		switch {
		case holder == nobodyHolds:
			op.F, op.Value = history.Acquire, history.Absent
			next := token + int64(1+r.Intn(2))
			if r.Intn(2) == 0 {
				op.Value = next
			}
			if becomes != refused {
				holder, token = op.Process, next
			}
		case r.Intn(3) > 0 && slices.Contains(alive, holder):
			op.F, op.Process = history.Release, holder
			if becomes != refused {
				holder = nobodyHolds
			}
		}
		if becomes != answered && op.F != history.Held {
			die(op.Process)
		}
		return op
	}
}

func bankMachine() machine {
	balance := map[int64]int64{}
	accounts := accountsOf(balances)
	for i, account := range accounts {
		balance[account] = balances[2*i+1]
	}
	return func(r *rand.Rand, becomes fate) history.Op {
		if r.Intn(2) == 0 {
			op := history.Op{F: history.ReadAll, Version: history.NoVersion}
			for _, at := range r.Perm(len(accounts)) {
				op.Items = append(op.Items, accounts[at], balance[accounts[at]])
			}
			return op
		}
		from, to := accounts[r.Intn(len(accounts))], accounts[r.Intn(len(accounts))]
		amount := r.Int63n(balance[from] + 1)
		if becomes != refused {
			balance[from] -= amount
			balance[to] += amount
		} else {
			amount += r.Int63n(4) // as well one for which there was not enough
		}
		return history.Op{F: history.Transfer, Value: amount, Expected: from, Version: to}
	}
}

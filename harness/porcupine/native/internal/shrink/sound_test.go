// Whatever shrinking leaves of an illegal history is told to a user as the proof that the whole is illegal. It is one
// only if no step can turn a legal history into an illegal one, which is what is proven here, as far as chance can: of
// random legal histories of every model, random steps must leave legal ones, by Porcupine. The second test does the
// same with all of Minimize, which is told by a coin what is illegal, so that it takes every way. The third plants an
// unsound step, which must be noticed in every model.
//
//	AFTERSHOCK_FUZZ=20000 go test ./internal/shrink -run Sound -count=1 -v
//
// AFTERSHOCK_FUZZ is the number of histories a model, AFTERSHOCK_FUZZ_SEED the printed seed of a run to repeat.
package shrink

import (
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"aftershock/native/internal/history"
	"aftershock/native/internal/search"
)

// patience is what Porcupine needs only when the machine is busy elsewhere.
const patience = 10 * time.Second

// stepsEach is how many steps are taken from a history, one after another: some are unsound only after others.
const stepsEach = 8

// step leaves less of a case, or the case as it is where it does not apply.
type step struct {
	name string
	take func(r *rand.Rand, model history.Model, c Case) Case
}

// everywhere are the steps that every model has.
var everywhere = []step{
	{"leave out", func(r *rand.Rand, model history.Model, c Case) Case {
		from := r.Intn(len(c.Ops))
		return without(rulesOf(model), c, from, from+1+r.Intn(min(3, len(c.Ops)-from)))
	}},
	{"keep", func(r *rand.Rand, model history.Model, c Case) Case {
		marked := make([]bool, len(c.Ops))
		for i := range marked {
			marked[i] = r.Intn(3) > 0
		}
		cases := rulesOf(model).keep(c, marked)
		return cases[r.Intn(len(cases))]
	}},
	{"cut", func(r *rand.Rand, _ history.Model, c Case) Case { return c.with(Until(c.Ops, moment(r, c))) }},
	{"tidy", func(_ *rand.Rand, _ history.Model, c Case) Case { return tidy(c) }},
	{"open", func(r *rand.Rand, _ history.Model, c Case) Case {
		return changed(r, c, func(op *history.Op) bool { return !op.F.Observes() }, open)
	}},
}

var weakening = step{"weaken", func(r *rand.Rand, _ history.Model, c Case) Case {
	isCAS := func(op *history.Op) bool { return op.F == history.CAS }
	return changed(r, c, isCAS, func(op *history.Op) { op.Weakened = true })
}}

var completing = step{"cut and complete", func(r *rand.Rand, model history.Model, c Case) Case {
	return rulesOf(model).(register).completed(c, c.with(Until(c.Ops, moment(r, c))))
}}

var anchoring = step{"anchor", func(r *rand.Rand, _ history.Model, c Case) Case {
	if i := r.Intn(len(c.Ops)); c.Anchor == nil && c.Ops[i].F.Observes() {
		return from(c, i)
	}
	return c
}}

var merging = step{"merge", func(r *rand.Rand, _ history.Model, c Case) Case {
	accounts := accountsOf(c.Initial)
	if len(accounts) < 2 || !sane(c, accounts) {
		return c
	}
	r.Shuffle(len(accounts), func(i, j int) { accounts[i], accounts[j] = accounts[j], accounts[i] })
	return together(c, accounts[:2+r.Intn(len(accounts)-1)])
}}

func stepsOf(model history.Model) []step {
	switch model {
	case history.Register:
		return append(slices.Clone(everywhere), completing)
	case history.CASRegister, history.KeyValue:
		return append(slices.Clone(everywhere), completing, weakening)
	case history.Counter:
		return append(slices.Clone(everywhere), anchoring)
	case history.Bank:
		return append(slices.Clone(everywhere), anchoring, merging)
	default:
		return everywhere
	}
}

// moment is about when something of the case began.
func moment(r *rand.Rand, c Case) int64 { return c.Ops[r.Intn(len(c.Ops))].Start + int64(r.Intn(10)) }

// changed does something to one operation by chance, if it is of the right kind.
func changed(r *rand.Rand, c Case, right func(*history.Op) bool, do func(*history.Op)) Case {
	ops := slices.Clone(c.Ops)
	if op := &ops[r.Intn(len(ops))]; right(op) {
		do(op)
	}
	return c.with(ops)
}

// inquiry is what was tried on a model, and what was wrong first.
type inquiry struct {
	model     history.Model
	r         *rand.Rand
	histories int
	judged    int
	undecided int
	taken     map[string]int // how often each step left something else
	path      []string       // from the history at hand to the case at hand
	unsound   string
	by        string // the step that was
}

// inquire makes legal histories and lets `try` take steps from each, until one was unsound.
func inquire(model history.Model, try func(*inquiry, Case)) *inquiry {
	q := &inquiry{model: model, r: rand.New(rand.NewSource(seed)), taken: map[string]int{}}
	for range count() {
		c := legalHistory(q.r, model)
		q.path = nil
		if q.judge("made", c); q.unsound != "" {
			return q
		}
		q.histories++
		if try(q, c); q.unsound != "" {
			return q
		}
	}
	return q
}

// judge notes a case that must be legal, and how it came about.
func (q *inquiry) judge(how string, c Case) {
	q.path = append(q.path, how+":"+described(c))
	legal, decided, _ := search.Decide(c.Ops, q.model, patience, c.Initial)
	if decided {
		q.judged++
	} else {
		q.undecided++
	}
	if decided && !legal && q.unsound == "" {
		q.unsound, q.by = "illegal: "+strings.Join(q.path, "\n"), how
	}
}

// walk takes one step after another.
func (q *inquiry) walk(c Case, steps []step) {
	for range stepsEach {
		if len(c.Ops) == 0 || q.unsound != "" {
			return
		}
		chosen := steps[q.r.Intn(len(steps))]
		before := described(c)
		after := chosen.take(q.r, q.model, c)
		if described(c) != before { // a step may be refused, so that the case must stay as it was
			q.unsound = fmt.Sprintf("%s changed what it was given:%s\nto:%s", chosen.name, before, described(c))
			return
		}
		if reflect.DeepEqual(after, c) {
			continue
		}
		q.taken[chosen.name]++
		q.judge(chosen.name, after)
		c = after
	}
}

// report fails for what was unsound, and for what was not tried, of which nothing is known.
func (q *inquiry) report(t *testing.T, steps ...step) {
	total := 0
	for _, times := range q.taken {
		total += times
	}
	t.Logf("seed %d, %s: %d histories, %d steps %v, %d undecided",
		seed, q.model, q.histories, total, q.taken, q.undecided)
	if q.unsound != "" {
		t.Fatalf("%s, seed %d: %s", q.model, seed, q.unsound)
	}
	if q.histories == 0 || total == 0 || q.undecided > q.judged/100 {
		t.Errorf("%s: no history was made, no step was tried, or too many cases were not decided", q.model)
	}
	for _, s := range steps {
		if q.taken[s.name] == 0 {
			t.Errorf("%s: %q was never taken; more histories (AFTERSHOCK_FUZZ) may do", q.model, s.name)
		}
	}
}

func TestSoundSteps(t *testing.T) {
	forEveryModel(t, func(t *testing.T, model history.Model) {
		steps := stepsOf(model)
		inquire(model, func(q *inquiry, c Case) { q.walk(c, steps) }).report(t, steps...)
	})
}

// Minimize takes steps in an order of its own and restores what it weakened; whatever it asks about must be legal.
func TestSoundMinimize(t *testing.T) {
	asking := step{name: "ask"}
	forEveryModel(t, func(t *testing.T, model history.Model) {
		inquire(model, func(q *inquiry, c Case) {
			yes := 1 + q.r.Intn(9) // in ten: from histories that shrink to nothing to those of which all is refused
			accepted := 1
			saysACoin := func(part Case) bool {
				q.path = q.path[:accepted] // what was refused is no part of the way
				q.taken[asking.name]++
				q.judge(asking.name, part)
				if q.r.Intn(10) < yes {
					accepted = len(q.path)
					return true
				}
				return false
			}
			culprits := q.r.Perm(len(c.Ops))[:q.r.Intn(len(c.Ops)+1)]
			q.judge("minimized", Minimize(c.Ops, model, c.Initial, culprits, saysACoin))
		}).report(t, asking)
	})
}

// An operation that is left out with nothing else takes away what others need, in every model.
func TestSoundTestNoticesAnUnsoundStep(t *testing.T) {
	planted := step{"leave out alone", func(r *rand.Rand, _ history.Model, c Case) Case {
		gone := make([]bool, len(c.Ops))
		gone[r.Intn(len(gone))] = true
		return c.omit(gone)
	}}
	forEveryModel(t, func(t *testing.T, model history.Model) {
		q := inquire(model, func(q *inquiry, c Case) { q.walk(c, []step{planted}) })
		t.Logf("seed %d, %s: after %d histories, %d steps", seed, model, q.histories, q.taken[planted.name])
		if q.by != planted.name {
			t.Errorf("%s, seed %d: not noticed in %d cases: %s", model, seed, q.judged, q.unsound)
		}
	})
}

func forEveryModel(t *testing.T, test func(*testing.T, history.Model)) {
	for _, model := range history.Models {
		t.Run(string(model), func(t *testing.T) {
			if machines[model] == nil {
				t.Fatalf("%s: no machine makes histories of it", model)
			}
			test(t, model)
		})
	}
}

// described has an operation a line.
func described(c Case) string {
	text := ""
	if c.Anchor != nil {
		text = fmt.Sprintf(" from row %d on", *c.Anchor)
	}
	text += fmt.Sprintf(" initial %v base %d merged %v", c.Initial, c.Base, c.Merged)
	for i := range c.Ops {
		text += fmt.Sprintf("\n    %+v", c.Ops[i])
	}
	return text
}

const fewHistories = 300

func count() int {
	if told := os.Getenv("AFTERSHOCK_FUZZ"); told != "" {
		return int(number(told))
	}
	return fewHistories
}

// seed is the same for all tests of a run.
var seed = func() int64 {
	if told := os.Getenv("AFTERSHOCK_FUZZ_SEED"); told != "" {
		return number(told)
	}
	return rand.Int63n(1e9)
}()

func number(told string) int64 {
	parsed, err := strconv.ParseInt(told, 10, 64)
	if err != nil {
		panic("AFTERSHOCK_FUZZ and AFTERSHOCK_FUZZ_SEED are whole numbers: " + err.Error())
	}
	return parsed
}

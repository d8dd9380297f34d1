// Package usermodel judges histories against a model that is not known here: whoever starts the program has it, and
// answers, for a state and an operation, which state follows.
//
// States and operations are numbers; equal operations have one number, their class. Questions ("? STATE CLASS") and
// verdicts (a JSON object) go out, a line each; after the history, answers (a state, or -1) come in, a line each.
// The initial state is 0; "| STATE STATE …" asks for the state that may be any of these. harness/porcupine/_user_worker.py is the other side.
package usermodel

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"aftershock/native/internal/history"
)

type header struct {
	Operations int   `json:"operations"`
	DeadlineMS int64 `json:"deadline_ms"`
}

// operation is one call. `maybe` is the class of the same call if nothing is known of its outcome.
type operation struct {
	row, key, group int32
	class, maybe    int32
	start, end      int64 // history.Open when its outcome is unknown
}

func (op *operation) unknown() bool { return op.end == history.Open }

type line struct {
	Key            int32           `json:"key"`
	Verdict        string          `json:"verdict"`
	Counterexample *Counterexample `json:"counterexample,omitempty"`
}

type session struct {
	*transitions
	deadline time.Time
}

// shrinkBudget bounds the time for one counterexample; the verdict stands without it.
const shrinkBudget = 5 * time.Second

// leastSearch is given to every search: less would be lost to the noise of a busy machine.
const leastSearch = 100 * time.Millisecond

// Serve judges one history, key by key, and says of each what it found.
func Serve(started time.Time, input io.Reader, output io.Writer) error {
	buffered := bufio.NewReaderSize(input, 1<<16)
	head, keys, err := parse(buffered)
	if err != nil {
		return err
	}
	s := &session{newTransitions(buffered, output), started.Add(time.Duration(head.DeadlineMS) * time.Millisecond)}
	slices.SortStableFunc(keys, func(a, b []operation) int { return cmp.Compare(len(a), len(b)) })
	var failures [][]operation
	// Twice: a hopeless key does not keep the others waiting, and what one search asked the next one knows.
	for round := 1; round <= 2 && len(keys) > 0; round++ {
		var undecided [][]operation
		for i, ops := range keys {
			left := time.Until(s.deadline)
			share := left / time.Duration(len(keys)-i)
			if round == 1 {
				share = min(max(share/2, leastSearch), left)
			}
			legal, decided := s.decide(ops, share, 0)
			if err := s.failed(); err != nil {
				return err
			}
			switch {
			case !decided:
				undecided = append(undecided, ops)
				continue
			case !legal:
				failures = append(failures, ops)
			}
			verdict := map[bool]string{true: "pass", false: "fail"}[legal]
			if err := s.tell(line{Key: ops[0].key, Verdict: verdict}); err != nil {
				return err
			}
		}
		keys = undecided
	}
	for _, ops := range keys {
		if err := s.tell(line{Key: ops[0].key, Verdict: "unknown"}); err != nil {
			return err
		}
	}
	return s.explain(failures)
}

// explain gives a counterexample of every key that failed, for as long as time is left.
func (s *session) explain(failures [][]operation) error {
	for i, ops := range failures {
		left := time.Until(s.deadline) / time.Duration(len(failures)-i)
		if left <= 0 {
			break
		}
		found := s.shrink(ops, time.Now().Add(min(left, shrinkBudget)))
		if err := s.failed(); err != nil {
			return err
		}
		if err := s.tell(line{Key: ops[0].key, Verdict: "fail", Counterexample: found}); err != nil {
			return err
		}
	}
	return s.say([]byte(`{"done": true}`))
}

func (s *session) tell(what line) error {
	encoded, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return s.say(encoded)
}

// decide searches with Porcupine. The class of an unknown operation is one that is possible in every state.
func (s *session) decide(ops []operation, budget time.Duration, from int32) (legal, decided bool) {
	if budget <= 0 {
		return false, false
	}
	entries := make([]porcupine.Operation, len(ops))
	for i := range ops {
		entries[i] = porcupine.Operation{Input: &ops[i], Call: ops[i].start, Return: ops[i].end}
	}
	result := porcupine.CheckOperationsTimeout(porcupine.Model{
		Init: func() interface{} { return from },
		Step: func(before, input, _ interface{}) (bool, interface{}) {
			after := s.next(before.(int32), input.(*operation))
			return after != impossible, after
		},
		Hash: func(state interface{}) uint64 { return uint64(state.(int32)) * 0x9e3779b97f4a7c15 },
	}, entries, budget)
	if s.failed() != nil {
		return false, false // it went on with made-up answers
	}
	return result == porcupine.Ok, result != porcupine.Unknown
}

// parse reads the header line and, for each operation, eight-byte integers: key, group, class, maybe, start, end.
func parse(input *bufio.Reader) (header, [][]operation, error) {
	var head header
	text, err := input.ReadBytes('\n')
	if err != nil {
		return head, nil, fmt.Errorf("the header line is missing: %w", err)
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return head, nil, fmt.Errorf("the header line is not JSON: %w", err)
	}
	byKey := map[int32][]operation{}
	for row := range head.Operations {
		var fields [6]int64
		if err := binary.Read(input, binary.LittleEndian, &fields); err != nil {
			return head, nil, fmt.Errorf("operation %d of %d is cut short: %w", row, head.Operations, err)
		}
		op := operation{
			row: int32(row), key: int32(fields[0]), group: int32(fields[1]), class: int32(fields[2]),
			maybe: int32(fields[3]), start: fields[4], end: fields[5],
		}
		byKey[op.key] = append(byKey[op.key], op)
	}
	keys := make([][]operation, 0, len(byKey))
	for _, ops := range byKey {
		keys = append(keys, ops)
	}
	slices.SortFunc(keys, func(a, b []operation) int { return cmp.Compare(a[0].key, b[0].key) })
	return head, keys, nil
}

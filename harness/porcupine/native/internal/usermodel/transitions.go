package usermodel

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// impossible is the answer of a step whose operation cannot have had its result in that state.
const impossible = -1

// transitions are what the model was asked so far. A pair of state and class is asked once.
type transitions struct {
	lock    sync.Mutex // held for a whole question: an abandoned search may still be waiting for its answer
	known   map[uint64]int32
	changes map[int32]bool // groups of operations that were seen to change a state
	input   *bufio.Reader
	output  *bufio.Writer
	broken  error
}

func newTransitions(input *bufio.Reader, output io.Writer) *transitions {
	return &transitions{
		known: map[uint64]int32{}, changes: map[int32]bool{}, input: input, output: bufio.NewWriter(output),
	}
}

// next is the state that follows, or impossible. Once the model no longer answers, everything is impossible, and
// `failed` tells that no verdict may be drawn from it.
func (t *transitions) next(state int32, op *operation) int32 {
	t.lock.Lock()
	defer t.lock.Unlock()
	pair := uint64(uint32(state))<<32 | uint64(uint32(op.class))
	after, known := t.known[pair]
	if !known && t.broken == nil {
		after, t.broken = t.ask("?", state, op.class)
		if t.broken == nil {
			t.known[pair] = after
			if after != state && after != impossible {
				t.changes[op.group] = true
			}
		}
	}
	if t.broken != nil {
		return impossible
	}
	return after
}

// either is the state that may be any of some.
func (t *transitions) either(states []int32) int32 {
	if len(states) == 1 {
		return states[0]
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.broken != nil {
		return impossible
	}
	var union int32
	union, t.broken = t.ask("|", states...)
	return union
}

func (t *transitions) ask(question string, numbers ...int32) (int32, error) {
	if _, err := t.output.WriteString(question); err != nil {
		return impossible, err
	}
	for _, number := range numbers {
		if _, err := fmt.Fprintf(t.output, " %d", number); err != nil {
			return impossible, err
		}
	}
	if err := t.output.WriteByte('\n'); err != nil {
		return impossible, err
	}
	if err := t.output.Flush(); err != nil {
		return impossible, err
	}
	line, err := t.input.ReadString('\n')
	if err != nil {
		return impossible, fmt.Errorf("the model no longer answers: %w", err)
	}
	after, err := strconv.ParseInt(strings.TrimSpace(line), 10, 32)
	if err != nil || after < impossible {
		return impossible, fmt.Errorf("the model answered %q; expected a state", line)
	}
	return int32(after), nil
}

// say writes one line that is not a question.
func (t *transitions) say(line []byte) error {
	t.lock.Lock()
	defer t.lock.Unlock()
	if _, err := t.output.Write(append(line, '\n')); err != nil {
		return err
	}
	return t.output.Flush()
}

func (t *transitions) failed() error {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.broken
}

// observes tells whether no operation of a group was ever seen to change a state.
func (t *transitions) observes(group int32) bool {
	t.lock.Lock()
	defer t.lock.Unlock()
	return !t.changes[group]
}

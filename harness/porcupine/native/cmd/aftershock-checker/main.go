// Command aftershock-checker judges whether a history is linearizable, key by key.
//
// It reads one JSON header line and raw little-endian int64 columns from standard input or from the named file, and
// answers with JSON lines: one or two a key (see package run), and a last one that says it is complete. The format is
// described in docs/checker.md; its only user is the binding in harness/porcupine. With --user-model it asks whoever
// started it what the model says (see package usermodel).
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"aftershock/native/internal/decide"
	"aftershock/native/internal/history"
	"aftershock/native/internal/memory"
	"aftershock/native/internal/run"
	"aftershock/native/internal/usermodel"
)

func main() {
	started := time.Now()
	var err error
	if slices.Equal(os.Args[1:], []string{"--user-model"}) {
		err = usermodel.Serve(started, os.Stdin, os.Stdout)
	} else {
		err = check(started, os.Args[1:], os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "aftershock-checker: %v\n", err)
		os.Exit(2)
	}
}

type last struct {
	Done          bool    `json:"done"`
	Keys          int     `json:"keys"`
	Seconds       float64 `json:"seconds"`
	DecideSeconds float64 `json:"decide_seconds"` // from columns to verdicts: no parsing, no counterexamples
}

func check(started time.Time, arguments []string, input *os.File, output io.Writer) error {
	if len(arguments) > 1 {
		return errors.New("usage: aftershock-checker [FILE]")
	}
	if len(arguments) == 1 {
		file, err := os.Open(arguments[0])
		if err != nil {
			return err
		}
		defer file.Close()
		input = file
	}
	data, mapped, err := history.ReadInput(input)
	if err != nil {
		return fmt.Errorf("the input cannot be read: %w", err)
	}
	// The binding watches the resident size, of which the mapped input is a part that the collector knows nothing of.
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		memory.Watch(limit / 90 * 93) // the binding tells 90 % of what it allows
		debug.SetMemoryLimit(max(limit-int64(mapped), limit/4))
		debug.SetGCPercent(400) // near the limit it collects more often by itself
	}
	request, all, err := history.Parse(data)
	if err != nil {
		return err
	}
	if err := validate(request); err != nil {
		return err
	}
	deadline := started.Add(time.Duration(request.DeadlineMS) * time.Millisecond)
	if request.Workers == 0 {
		request.Workers = runtime.GOMAXPROCS(0)
	}

	lines := make(chan run.Line, 1024)
	written := make(chan error, 1)
	go func() { written <- write(lines, output) }()
	decided := run.All(request, all, deadline, func(line run.Line) { lines <- line })
	close(lines)
	if err := <-written; err != nil {
		return err
	}
	return json.NewEncoder(output).Encode(last{
		Done: true, Keys: len(all.Keys), Seconds: time.Since(started).Seconds(), DecideSeconds: decided.Seconds(),
	})
}

func validate(request *history.Request) error {
	if !slices.Contains(history.Models, request.Model) {
		return fmt.Errorf("model %q is none of %v", request.Model, history.Models)
	}
	switch request.Engine {
	case decide.Auto, decide.Unique, decide.Frontier, decide.Porcupine:
	default:
		return fmt.Errorf("engine %q is none of auto, unique, frontier, porcupine", request.Engine)
	}
	if request.Workers < 0 || request.DeadlineMS < 0 {
		return errors.New("workers and deadline_ms must not be negative")
	}
	return nil
}

// write puts out lines as they come and flushes whenever none is waiting, so that a kill loses no verdict.
func write(lines <-chan run.Line, output io.Writer) error {
	buffered := bufio.NewWriter(output)
	encoder := json.NewEncoder(buffered)
	var failed error
	for line := range lines {
		if failed != nil {
			continue // keep the judges going: they would wait for ever on a full channel
		}
		failed = encoder.Encode(line)
		if failed == nil && len(lines) == 0 {
			failed = buffered.Flush()
		}
	}
	if failed != nil {
		return failed
	}
	return buffered.Flush()
}

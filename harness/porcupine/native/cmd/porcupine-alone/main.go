// Command porcupine-alone judges a whole history with Porcupine as anybody would call it: one call, partitioned by
// key, with one time limit. It is the other side of benchmarks/checker.py, is built by it and is in no wheel.
//
// It reads what aftershock-checker reads from standard input (docs/checker.md), and answers with one line of JSON. What
// it times is the call alone: neither reading nor turning columns into operations.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"aftershock/native/internal/history"
	"aftershock/native/internal/spec"
)

func main() {
	if err := check(); err != nil {
		fmt.Fprintf(os.Stderr, "porcupine-alone: %v\n", err)
		os.Exit(2)
	}
}

func check() error {
	data, _, err := history.ReadInput(os.Stdin)
	if err != nil {
		return err
	}
	request, all, err := history.Parse(data)
	if err != nil {
		return err
	}
	debug.SetGCPercent(400) // as aftershock-checker does: neither shall wait for its collector more than the other
	var model porcupine.Model
	entries := make([]porcupine.Operation, 0, request.Operations)
	rows := make([]int32, 0, request.Operations)
	for _, key := range all.Keys {
		ops := all.Effective(key, nil)
		compiled, some, fits := spec.Porcupine(ops, request.Model, request.Initial)
		if !fits || len(some) != len(ops) {
			return fmt.Errorf("the model %s has not all of the functions of key %d", request.Model, key.ID)
		}
		model = compiled // it keeps nothing of its operations, for a register
		for i := range some {
			some[i].ClientId = int(key.ID) // nobody looks at clients, and the partition needs the key
			rows = append(rows, ops[i].Row)
		}
		entries = append(entries, some...)
	}
	model.Partition = partition
	recorded := make([]porcupine.Operation, request.Operations) // in the order of the rows, keys mixed
	for i, row := range rows {
		recorded[row] = entries[i]
	}
	// Those that say nothing are left out, and have no step.
	recorded = slices.DeleteFunc(recorded, func(entry porcupine.Operation) bool { return entry.Input == nil })
	started := time.Now()
	limit := time.Duration(request.DeadlineMS) * time.Millisecond
	result := porcupine.CheckOperationsTimeout(model, recorded, limit)
	seconds := time.Since(started).Seconds()
	verdict := map[porcupine.CheckResult]string{
		porcupine.Ok: "pass", porcupine.Illegal: "fail", porcupine.Unknown: "unknown",
	}[result]
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"done": true, "verdict": verdict, "decide_seconds": seconds})
}

// partition is the key-value model's of Porcupine's own tests.
func partition(history []porcupine.Operation) [][]porcupine.Operation {
	byKey := map[int][]porcupine.Operation{}
	for _, entry := range history {
		byKey[entry.ClientId] = append(byKey[entry.ClientId], entry)
	}
	parts := make([][]porcupine.Operation, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		parts = append(parts, byKey[key])
	}
	return parts
}

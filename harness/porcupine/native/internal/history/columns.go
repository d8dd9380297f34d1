package history

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// Request is the header line of the input: what to judge, how, and within which budget.
type Request struct {
	Schema     int      `json:"schema"`
	Operations int      `json:"operations"`
	Columns    []string `json:"columns"`
	Model      Model    `json:"model"`
	Engine     string   `json:"engine"`
	DeadlineMS int64    `json:"deadline_ms"`
	Workers    int      `json:"workers"`
}

// Schema is the version of the format that docs/checker.md describes.
const Schema = 1

var columns = []string{"key", "f", "value", "expected", "version", "start_ns", "end_ns", "unknown"}

// Key is the part of a history that concerns one key.
type Key struct {
	ID  int64
	Ops []Op
}

// Parse reads a request and its columns. Keys come in ascending order, their operations in row order.
func Parse(input io.Reader) (*Request, []Key, error) {
	buffered := bufio.NewReaderSize(input, 1<<20)
	line, err := buffered.ReadBytes('\n')
	if err != nil {
		return nil, nil, fmt.Errorf("the header line is missing: %w", err)
	}
	request := &Request{}
	if err := json.Unmarshal(line, request); err != nil {
		return nil, nil, fmt.Errorf("the header line is not JSON: %w", err)
	}
	if request.Schema != Schema {
		return nil, nil, fmt.Errorf("schema %d is not the %d that this program reads", request.Schema, Schema)
	}
	if !slices.Equal(request.Columns, columns) {
		return nil, nil, fmt.Errorf("columns %v are not %v", request.Columns, columns)
	}
	if request.Operations < 0 || request.Operations > 1<<31-1 {
		return nil, nil, fmt.Errorf("%d operations are out of range", request.Operations)
	}
	raw := make([]byte, 8*request.Operations)
	ids := make([]int64, request.Operations)
	ops := make([]Op, request.Operations)
	for _, column := range columns {
		if _, err := io.ReadFull(buffered, raw); err != nil {
			return nil, nil, fmt.Errorf("column %s is cut short: %w", column, err)
		}
		for row := range ops {
			fill(column, int64(binary.LittleEndian.Uint64(raw[8*row:])), &ids[row], &ops[row])
			ops[row].Row = int32(row)
		}
	}
	if _, err := buffered.ReadByte(); err != io.EOF {
		return nil, nil, fmt.Errorf("bytes follow the last column")
	}
	return request, split(ids, ops), nil
}

func fill(column string, value int64, id *int64, op *Op) {
	switch column {
	case "key":
		*id = value
	case "f":
		op.F = F(value)
	case "value":
		op.Value = value
	case "expected":
		op.Expected = value
	case "version":
		op.Version = value
	case "start_ns":
		op.Start = value
	case "end_ns":
		op.End = value
	case "unknown":
		op.Unknown = value != 0
	}
}

func split(ids []int64, ops []Op) []Key {
	counts := map[int64]int{}
	for _, id := range ids {
		counts[id]++
	}
	keys := make([]Key, 0, len(counts))
	for id, count := range counts {
		keys = append(keys, Key{ID: id, Ops: make([]Op, 0, count)})
	}
	slices.SortFunc(keys, func(a, b Key) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	place := make(map[int64]int, len(keys))
	for i := range keys {
		place[keys[i].ID] = i
	}
	for row, id := range ids {
		key := &keys[place[id]]
		key.Ops = append(key.Ops, ops[row])
	}
	return keys
}

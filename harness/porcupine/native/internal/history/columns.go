package history

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"aftershock/native/internal/places"
	"aftershock/native/internal/radix"
)

// Request is the header line of the input: what to judge, how, and within which budget.
type Request struct {
	Schema     int              `json:"schema"`
	Operations int              `json:"operations"`
	Items      int              `json:"items"` // length of the block that follows the columns: what the lists of all rows hold
	Columns    []string         `json:"columns"`
	Narrow     []string         `json:"narrow"`   // those columns that have one byte a row, 0 … 255
	Constant   map[string]int64 `json:"constant"` // columns that hold one value, and so are not there
	Model      Model            `json:"model"`
	Engine     string           `json:"engine"`
	Initial    []int64          `json:"initial"` // bank: account and balance in turn
	DeadlineMS int64            `json:"deadline_ms"`
	Workers    int              `json:"workers"`
}

// Schema is the version of the format that docs/checker.md describes.
const Schema = 2

// A row's list is `items_count` items from `items_first` on; a count of -1 means that it has none.
var (
	required = []string{"key", "f", "value", "start_ns", "end_ns", "unknown"}
	optional = map[string]int64{"process": 0, "expected": 0, "version": NoVersion, "items_first": 0, "items_count": -1}
)

// History is the columns, where they were read, and which of their rows concern each key.
type History struct {
	Keys []Key // ascending by ID

	model Model

	key, f, unknown, process, value, expected, version, start, end, first, count column

	items []int64
	lists bool    // some row may have one
	rows  []int32 // by key, in their order within it; nil when they are so already
}

// Key is the part of a history that concerns one key: Count of the rows by key, from `first` on.
type Key struct {
	ID    int64
	Count int
	first int
}

// column is int64 values, or bytes, or the same value for every row.
type column struct {
	wide     []byte
	narrow   []byte
	constant int64
}

func (c *column) at(row int) int64 {
	switch {
	case c.wide != nil:
		return int64(binary.LittleEndian.Uint64(c.wide[8*row:]))
	case c.narrow != nil:
		return int64(c.narrow[row])
	default:
		return c.constant
	}
}

// Parse reads a request and finds its columns and keys. The input is used in place and must not change any more.
func Parse(input []byte) (*Request, *History, error) {
	line, rest, ended := bytes.Cut(input, []byte{'\n'})
	if !ended {
		return nil, nil, errors.New("the header line is missing")
	}
	request := &Request{}
	if err := json.Unmarshal(line, request); err != nil {
		return nil, nil, fmt.Errorf("the header line is not JSON: %w", err)
	}
	if request.Schema != Schema {
		return nil, nil, fmt.Errorf("schema %d is not the %d that this program reads", request.Schema, Schema)
	}
	if err := checkColumns(request); err != nil {
		return nil, nil, err
	}
	if request.Items < 0 || request.Items > math.MaxInt32 {
		return nil, nil, fmt.Errorf("%d items are out of range", request.Items)
	}
	if request.Operations < 0 || request.Operations > math.MaxInt32 {
		return nil, nil, fmt.Errorf("%d operations are out of range", request.Operations)
	}
	h := &History{model: request.Model}
	rest, err := h.columns(request, rest)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) != 8*request.Items {
		return nil, nil, fmt.Errorf("%d bytes follow the columns; expected %d items of 8", len(rest), request.Items)
	}
	h.items = make([]int64, request.Items)
	for i := range h.items {
		h.items[i] = int64(binary.LittleEndian.Uint64(rest[8*i:]))
	}
	if err := h.checkLists(request.Operations); err != nil {
		return nil, nil, err
	}
	h.group(request.Operations)
	return request, h, nil
}

func checkColumns(request *Request) error {
	for name := range request.Constant {
		if !slices.Contains(required, name) && !isOptional(name) || slices.Contains(request.Columns, name) {
			return fmt.Errorf("constant column %s is unknown or there twice", name)
		}
	}
	for i, name := range request.Columns {
		if !slices.Contains(required, name) && !isOptional(name) || slices.Contains(request.Columns[:i], name) {
			return fmt.Errorf("column %s is unknown or there twice", name)
		}
	}
	for _, name := range required {
		if _, constant := request.Constant[name]; !constant && !slices.Contains(request.Columns, name) {
			return fmt.Errorf("column %s is missing", name)
		}
	}
	for _, name := range request.Narrow {
		if !slices.Contains(request.Columns, name) {
			return fmt.Errorf("narrow column %s is none of the columns", name)
		}
	}
	return nil
}

func isOptional(name string) bool {
	_, yes := optional[name]
	return yes
}

// columns finds every column in the input and returns what follows them.
func (h *History) columns(request *Request, rest []byte) ([]byte, error) {
	named := map[string]*column{
		"key": &h.key, "f": &h.f, "unknown": &h.unknown, "process": &h.process, "value": &h.value,
		"expected": &h.expected, "version": &h.version, "start_ns": &h.start, "end_ns": &h.end,
		"items_first": &h.first, "items_count": &h.count,
	}
	for name, value := range optional {
		named[name].constant = value
	}
	for name, value := range request.Constant {
		named[name].constant = value
	}
	for _, name := range request.Columns {
		narrow := slices.Contains(request.Narrow, name)
		length := 8 * request.Operations
		if narrow {
			length = request.Operations
		}
		if len(rest) < length {
			return nil, fmt.Errorf("column %s is cut short: %d of %d bytes", name, len(rest), length)
		}
		if narrow {
			named[name].narrow = rest[:length:length]
		} else {
			named[name].wide = rest[:length:length]
		}
		rest = rest[length:]
	}
	return rest, nil
}

// checkLists refuses lists that are not within the items.
func (h *History) checkLists(operations int) error {
	h.lists = h.count.wide != nil || h.count.narrow != nil || h.count.constant >= 0
	all := int64(len(h.items))
	for row := 0; h.lists && row < operations; row++ {
		count, first := h.count.at(row), h.first.at(row)
		if count >= 0 && (first < 0 || count > all || first > all-count) {
			return fmt.Errorf("row %d has items %d of %d from %d on", row, count, all, first)
		}
	}
	return nil
}

// group finds the rows of every key: by a table of keys and a counting sort, unless the rows are by key already.
func (h *History) group(operations int) {
	if operations == 0 {
		return
	}
	low, high, sorted := h.key.at(0), h.key.at(0), true
	for row := range operations {
		id := h.key.at(row)
		sorted = sorted && id >= high
		low, high = min(low, id), max(high, id)
	}
	if sorted {
		for row := range operations {
			if id := h.key.at(row); row == 0 || id != h.Keys[len(h.Keys)-1].ID {
				h.Keys = append(h.Keys, Key{ID: id, first: row})
			}
			h.Keys[len(h.Keys)-1].Count++
		}
		return
	}
	var found places.Table
	found.Reset(low, high, min(operations, 1<<16))
	var ids []int64
	var counts []int32
	numbers := make([]int32, operations)
	for row := range operations {
		id := h.key.at(row)
		number := found.Add(id, int32(len(ids)))
		if int(number) == len(ids) {
			ids, counts = append(ids, id), append(counts, 0)
		}
		numbers[row] = number
		counts[number]++
	}
	next := make([]int32, len(ids))
	h.Keys = make([]Key, 0, len(ids))
	at := 0
	for _, number := range new(radix.Sorter).Order(ids) {
		next[number] = int32(at)
		h.Keys = append(h.Keys, Key{ID: ids[number], first: at, Count: int(counts[number])})
		at += int(counts[number])
	}
	h.rows = make([]int32, operations)
	for row, number := range numbers {
		h.rows[next[number]] = int32(row)
		next[number]++
	}
}

// Effective returns the operations on a key that can matter (see the function of that name), in row order. It uses
// the memory of `into` where that suffices.
func (h *History) Effective(key Key, into []Op) []Op {
	ops := slices.Grow(into[:0], key.Count)[:key.Count]
	kept := 0
	for i := key.first; i < key.first+key.Count; i++ {
		row := i
		if h.rows != nil {
			row = int(h.rows[i])
		}
		op := &ops[kept]
		op.F, op.Unknown, op.Weakened = F(h.f.at(row)), h.unknown.at(row) != 0, false
		op.Row, op.Process = int32(row), h.process.at(row)
		op.Value, op.Expected, op.Version = h.value.at(row), h.expected.at(row), h.version.at(row)
		op.Start, op.End = h.start.at(row), h.end.at(row)
		if h.lists { // never touched otherwise, because a write of pointers is dear while the collector runs
			op.Items = h.list(row)
		}
		if op.matters(h.model) {
			kept++
		}
	}
	return ops[:kept]
}

// list returns a row's items, nil where it has none.
func (h *History) list(row int) []int64 {
	first, count := h.first.at(row), h.count.at(row)
	if count < 0 {
		return nil
	}
	return h.items[first : first+count : first+count]
}

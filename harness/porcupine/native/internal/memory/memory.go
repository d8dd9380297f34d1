// Package memory keeps searches within the memory that the program was given.
//
// The binding ends a program that holds too much, and with it every key that was not decided yet. So that this hits
// the search that wants the memory and no other, searches ask here whether they must give up.
package memory

import (
	"bytes"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"time"
)

// lookEvery is short enough: in this time a search takes a megabyte or two.
const lookEvery = 2 * time.Millisecond

var short atomic.Bool

// Short tells whether every search that can grow must give up.
func Short() bool { return short.Load() }

// Watch makes memory short whenever the program holds more than `most` bytes, or when so much of the collector's limit
// is in use that it would do little else than look for more; until both are an eighth less.
func Watch(most int64) {
	status, err := os.Open("/proc/self/statm")
	if err != nil {
		return // the binding watches too
	}
	go func() {
		buffer := make([]byte, 256)
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for range time.Tick(lookEvery) {
			metrics.Read(live)
			used := int64(live[0].Value.Uint64())
			mostUsed := debug.SetMemoryLimit(-1) / 4 * 3
			held := resident(status, buffer)
			switch {
			case held > most || used > mostUsed:
				short.Store(true)
			case held < most-most/8 && used < mostUsed-mostUsed/8:
				short.Store(false)
			}
		}
	}()
}

// resident is how many bytes the program holds; 0 when nobody knows.
func resident(status *os.File, buffer []byte) int64 {
	count, _ := status.ReadAt(buffer, 0)
	fields := bytes.Fields(buffer[:count])
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// recoverWithin bounds the wait for what others hold: they give up as well, but each in its own time.
const recoverWithin = 100 * time.Millisecond

// Recover gives back what the caller, a search that gave up, does not hold any more, and waits until that shows.
func Recover() {
	debug.FreeOSMemory()
	for end := time.Now().Add(recoverWithin); Short() && time.Now().Before(end); {
		time.Sleep(lookEvery)
	}
}

package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Memory is a sink for the demo, the simulator and tests: it counts, remembers
// which numbers it has seen, and keeps the last few records. It finds a record
// that is stored twice by itself, without believing the hub. It is safe for
// concurrent use.
type Memory struct {
	opts MemoryOptions

	mu         sync.Mutex // guards what follows
	streams    map[streamKey]*edgeagent.Ranges
	last       []Stored // a ring
	next       int
	count      uint64
	duplicates uint64
}

var _ Sink = (*Memory)(nil)

// MemoryOptions configure a [Memory].
type MemoryOptions struct {
	// Keep is how many records [Memory.Last] can return; default none.
	Keep int
	// OnCommit is called after each commit, by the goroutine that commits. The
	// cut's slices are valid during the call only.
	OnCommit func(c Cut, at time.Time)
}

type streamKey struct {
	deviceKey
	epoch  edgeagent.Epoch
	stream edgeagent.Stream
}

// NewMemory returns an empty sink.
func NewMemory(o MemoryOptions) *Memory {
	return &Memory{opts: o, streams: map[streamKey]*edgeagent.Ranges{}}
}

// Commit implements [Sink]. It fails if the cut's ranges do not fit its records.
func (m *Memory) Commit(_ context.Context, c Cut) error {
	if n := total(c.Ranges); n != uint64(c.Len()) {
		return fmt.Errorf("memory sink: %d records in ranges of %d numbers", c.Len(), n)
	}
	m.store(c)
	if m.opts.OnCommit != nil {
		m.opts.OnCommit(c, time.Now())
	}
	return nil
}

func (m *Memory) store(c Cut) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := streamKey{deviceKey{c.Tenant, c.Device}, c.Epoch, c.Stream}
	held := m.streams[key]
	if held == nil {
		held = new(edgeagent.Ranges)
		m.streams[key] = held
	}
	for _, r := range c.Ranges {
		added := held.Add(r)
		m.count += added
		m.duplicates += r.Len() - added
	}
	if m.opts.Keep <= 0 {
		return
	}
	s := Stored{Tenant: c.Tenant, Device: c.Device, Epoch: c.Epoch, Stream: c.Stream, Unsynced: c.Unsynced}
	for _, row := range c.Rows {
		s.Row = row
		m.keep(s)
	}
	for _, r := range c.Rollups {
		s.Rollup = &r
		m.keep(s)
	}
	for _, e := range c.Events {
		s.Event = &e
		m.keep(s)
	}
}

func (m *Memory) keep(s Stored) {
	if len(m.last) < m.opts.Keep {
		m.last = append(m.last, s)
		return
	}
	m.last[m.next] = s
	m.next = (m.next + 1) % len(m.last)
}

// Count returns how many different records have been stored.
func (m *Memory) Count() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// Duplicates returns how many records were stored more than once. It stays 0 as
// long as the hub keeps its word.
func (m *Memory) Duplicates() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.duplicates
}

// Ranges returns which numbers of a stream have been stored.
func (m *Memory) Ranges(tenant, device string, epoch edgeagent.Epoch, stream edgeagent.Stream) edgeagent.Ranges {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.streams[streamKey{deviceKey{tenant, device}, epoch, stream}]
	if held == nil {
		return nil
	}
	return slices.Clone(*held)
}

// Last returns the records kept, in the order in which they were stored.
func (m *Memory) Last() []Stored {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.last[m.next:], m.last[:m.next])
}

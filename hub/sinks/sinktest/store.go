package sinktest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

// Store is a [hub.Store] in memory, for tests of sinks that need one beside them. It
// outlives the hubs that use it. It keeps records, too, if it is given any.
type Store struct {
	mu     sync.Mutex // guards what follows
	epochs map[hub.EpochID]*hub.Saved
	order  []hub.EpochID
	kept   map[uint64]hub.Kept
	rows   []hub.Stored
	runs   []edgeagent.Run // of the rows

	lie lie
}

// lie is what a store does that it should not, in the tests of the suite.
type lie struct {
	dropsRows, dropsRanges, dropsNames, dropsGaps, dropsKept, dropsPending bool
	ignoresVersions, ignoresCorrections, correctsTwice                     bool
	storesAndFails, storesHalf                                             bool // once
	failed                                                                 bool
}

// NewStore returns an empty store.
func NewStore() *Store {
	m := &Store{}
	_ = m.Clear(context.Background()) // cannot fail
	return m
}

// Clear forgets everything.
func (m *Store) Clear(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epochs, m.order, m.kept, m.rows, m.runs = map[hub.EpochID]*hub.Saved{}, nil, map[uint64]hub.Kept{}, nil, nil
	m.lie.failed = false
	return nil
}

// Epochs implements [hub.Store].
func (m *Store) Epochs(context.Context) ([]hub.EpochID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.order), nil
}

// Load implements [hub.Store].
func (m *Store) Load(_ context.Context, id hub.EpochID, names bool) (hub.Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.epochs[id]
	if s == nil {
		return hub.Saved{}, nil
	}
	out := *s
	out.Streams = map[edgeagent.Stream]hub.StreamState{}
	for k, v := range s.Streams {
		out.Streams[k] = copied(v)
	}
	if out.Series = slices.Clone(s.Series); !names {
		out.Series = nil
	}
	out.Clock, out.Pending = slices.Clone(s.Clock), slices.Clone(s.Pending)
	for _, k := range m.kept {
		if k.Cause == hub.CauseSeries && (hub.EpochID{Tenant: k.Tenant, Device: k.Device, Epoch: k.Epoch}) == id {
			out.Waiting = append(out.Waiting, k)
		}
	}
	return out, nil
}

func copied(s hub.StreamState) hub.StreamState {
	s.Held, s.Gaps, s.Conflicts = slices.Clone(s.Held), slices.Clone(s.Gaps), slices.Clone(s.Conflicts)
	return s
}

// Kept implements [hub.Store].
func (m *Store) Kept(context.Context) ([]hub.Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.kept), func(a, b hub.Kept) int { return cmp.Compare(a.ID, b.ID) }), nil
}

// Commit implements [hub.Store].
func (m *Store) Commit(_ context.Context, changes []hub.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes { // all of them or none
		if m.behind(c) && !m.lie.ignoresVersions {
			return hub.ErrStale
		}
	}
	if m.lie.storesHalf && len(changes) > 1 && !m.lie.failed {
		m.lie.failed = true
		return errors.Join(m.change(changes[0]), errDead)
	}
	for _, c := range changes {
		if err := m.change(c); err != nil {
			return err
		}
	}
	return nil
}

// behind reports whether a change was planned on another state.
func (m *Store) behind(c hub.Change) bool {
	known := map[edgeagent.Stream]hub.StreamState{}
	if s := m.epochs[c.EpochID]; s != nil {
		known = s.Streams
	}
	for _, x := range c.Streams {
		if known[x.Stream].Version != x.State.Version {
			return true
		}
	}
	return false
}

func (m *Store) change(c hub.Change) error {
	s := m.epochs[c.EpochID]
	if s == nil {
		s = &hub.Saved{Streams: map[edgeagent.Stream]hub.StreamState{}}
	}
	for _, k := range c.Keep {
		if k.Block = slices.Clone(k.Block); !m.lie.dropsKept {
			m.kept[k.ID] = k
		}
	}
	for _, id := range c.Drop {
		delete(m.kept, id)
	}
	if c.Epoch == 0 {
		return nil
	}
	if m.epochs[c.EpochID] == nil {
		m.epochs[c.EpochID] = s
		m.order = append(m.order, c.EpochID)
	}
	m.state(s, c)
	if c.Cut != nil && !m.lie.dropsRows {
		m.take(*c.Cut)
	}
	if m.lie.storesAndFails && c.Cut != nil && !m.lie.failed {
		m.lie.failed = true
		return errDead
	}
	return nil
}

func (m *Store) state(s *hub.Saved, c hub.Change) {
	s.Ended = s.Ended || c.Ended
	if !m.lie.dropsNames {
		s.Series = append(s.Series, c.Series...)
	}
	s.Clock = append(s.Clock, c.Clock...)
	for _, x := range c.Streams {
		was := s.Streams[x.Stream]
		st := copied(x.State)
		if !x.Gaps || m.lie.dropsGaps {
			st.Gaps = was.Gaps
		}
		if m.lie.dropsRanges || m.lie.storesAndFails && c.Cut != nil && !m.lie.failed {
			st.Held = was.Held
		}
		st.Version = was.Version
		if !m.lie.storesAndFails || c.Cut == nil || m.lie.failed {
			st.Version++
		}
		s.Streams[x.Stream] = st
	}
	s.Pending = slices.DeleteFunc(s.Pending, func(p hub.Pending) bool { return p.Stream == c.Done })
	if c.Pending != nil && !m.lie.dropsPending {
		p := *c.Pending
		p.Block = slices.Clone(p.Block)
		s.Pending = append(s.Pending, p)
	}
	for _, x := range c.Clock {
		for i := range m.rows {
			if !m.lie.ignoresCorrections && m.runs[i] == x.Run && m.rows[i].Unsynced {
				m.rows[i].Row.Time += int64(x.Add)
				m.rows[i].Unsynced = m.lie.correctsTwice
			}
		}
	}
}

func (m *Store) take(c hub.Cut) {
	x := hub.Stored{Tenant: c.Tenant, Device: c.Device, Epoch: c.Epoch, Stream: c.Stream, Unsynced: c.Unsynced}
	for _, r := range c.Rows {
		x.Row = r
		m.rows, m.runs = append(m.rows, x), append(m.runs, c.Run)
	}
	for _, r := range c.Rollups {
		x.Rollup = &r
		m.rows, m.runs = append(m.rows, x), append(m.runs, c.Run)
	}
	for _, e := range c.Events {
		x.Event = &e
		m.rows, m.runs = append(m.rows, x), append(m.runs, c.Run)
	}
}

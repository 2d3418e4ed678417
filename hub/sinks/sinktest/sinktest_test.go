package sinktest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

// memory is a store that keeps its word, in memory, unless told to lie.
type memory struct {
	mu     sync.Mutex // guards what follows
	epochs map[hub.EpochID]*hub.Saved
	order  []hub.EpochID
	kept   map[uint64]hub.Kept
	rows   []hub.Stored
	runs   []edgeagent.Run // of the rows

	lie lie
}

// lie is what a store or sink does that it should not.
type lie struct {
	dropsRows, dropsRanges, dropsNames, dropsGaps, dropsKept, dropsPending bool
	ignoresVersions, ignoresCorrections, correctsTwice                     bool
	storesAndFails                                                         bool // once
	failed                                                                 bool
}

func (m *memory) clear(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epochs, m.order, m.kept, m.rows, m.runs = map[hub.EpochID]*hub.Saved{}, nil, map[uint64]hub.Kept{}, nil, nil
	m.lie.failed = false
	return nil
}

func (m *memory) Epochs(context.Context) ([]hub.EpochID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.order), nil
}

func (m *memory) Load(_ context.Context, id hub.EpochID, names bool) (hub.Saved, error) {
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

func (m *memory) Kept(context.Context) ([]hub.Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.kept), func(a, b hub.Kept) int { return cmp.Compare(a.ID, b.ID) }), nil
}

func (m *memory) Commit(_ context.Context, changes []hub.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		if err := m.change(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) change(c hub.Change) error {
	s := m.epochs[c.EpochID]
	if s == nil {
		s = &hub.Saved{Streams: map[edgeagent.Stream]hub.StreamState{}}
	}
	for _, x := range c.Streams {
		if s.Streams[x.Stream].Version != x.State.Version && !m.lie.ignoresVersions {
			return hub.ErrStale
		}
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

func (m *memory) state(s *hub.Saved, c hub.Change) {
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

func (m *memory) take(c hub.Cut) {
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

// sink takes records beside a store. It leaves out cuts that it has had, unless it is
// forgetful; cuts of other bounds it cannot know.
type sink struct {
	m         *memory
	seen      map[string]bool
	forgetful bool
	lies      bool // says yes and does nothing, once
	deaf      bool
}

func (s *sink) Commit(_ context.Context, c hub.Cut) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.seen[c.ID()] && !s.forgetful {
		return nil
	}
	s.seen[c.ID()] = true
	if s.deaf {
		s.deaf = false
		return nil
	}
	s.m.take(c)
	return nil
}

func config(m *memory, g Guarantee, s *sink) Config {
	m.lie.ignoresCorrections = m.lie.ignoresCorrections || s != nil // raw times are what such a sink promises
	return Config{
		Guarantee: g, RawTimes: s != nil, Shared: s == nil,
		Clear: func(ctx context.Context) error {
			if s != nil {
				s.m, s.seen, s.deaf = m, map[string]bool{}, s.lies
			}
			return m.clear(ctx)
		},
		Open: func(context.Context) (Opened, error) {
			o := Opened{Store: m, Close: func() error { return nil }}
			if s != nil {
				o.Sink = s
			}
			return o, nil
		},
		Read: func(context.Context) ([]hub.Stored, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return slices.Clone(m.rows), nil
		},
	}
}

func TestHonest(t *testing.T) {
	for name, c := range map[string]Config{
		"store":              config(&memory{}, ExactlyOnce, nil),
		"sink":               config(&memory{}, ExactlyOnce, &sink{}),
		"sink at least once": config(&memory{}, AtLeastOnce, &sink{forgetful: true}),
	} {
		c.Disturb = func() {}
		t.Run(name, func(t *testing.T) {
			for _, check := range Checks(c) {
				if err := try(t, c, check); err != nil {
					t.Errorf("%s: %v", check.Name, err)
				}
			}
		})
	}
}

// try runs a check where waiting costs nothing.
func try(t *testing.T, c Config, check Check) (err error) {
	synctest.Test(t, func(t *testing.T) {
		if err = c.Clear(t.Context()); err == nil {
			err = check.Run(t.Context(), c)
		}
	})
	return err
}

// TestLiars is the control: the suite finds each lie.
func TestLiars(t *testing.T) {
	for name, c := range map[string]Config{
		"ranges without rows":         config(&memory{lie: lie{dropsRows: true}}, ExactlyOnce, nil),
		"rows without ranges":         config(&memory{lie: lie{dropsRanges: true}}, ExactlyOnce, nil),
		"no names":                    config(&memory{lie: lie{dropsNames: true}}, ExactlyOnce, nil),
		"no gaps":                     config(&memory{lie: lie{dropsGaps: true}}, ExactlyOnce, nil),
		"no quarantine":               config(&memory{lie: lie{dropsKept: true}}, ExactlyOnce, nil),
		"no versions":                 config(&memory{lie: lie{ignoresVersions: true}}, ExactlyOnce, nil),
		"no corrections":              config(&memory{lie: lie{ignoresCorrections: true}}, ExactlyOnce, nil),
		"a correction that stays":     config(&memory{lie: lie{correctsTwice: true}}, ExactlyOnce, nil),
		"stored although it failed":   config(&memory{lie: lie{storesAndFails: true}}, ExactlyOnce, nil),
		"no intents":                  config(&memory{lie: lie{dropsPending: true}}, ExactlyOnce, &sink{}),
		"at least once is not once":   config(&memory{}, ExactlyOnce, &sink{forgetful: true}),
		"a cut that was never stored": config(&memory{}, AtLeastOnce, &sink{lies: true}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, check := range Checks(c) {
				if try(t, c, check) != nil {
					return
				}
			}
			t.Error("the suite has found nothing")
		})
	}
}

package sinktest

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/edgeagent/edgeagent/hub"
)

// sink takes records beside a store. It leaves out cuts that it has had, unless it is
// forgetful; cuts of other bounds it cannot know.
type sink struct {
	m         *Store
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

func config(m *Store, g Guarantee, s *sink) Config {
	m.lie.ignoresCorrections = m.lie.ignoresCorrections || s != nil // raw times are what such a sink promises
	return Config{
		Guarantee: g, RawTimes: s != nil, Shared: s == nil,
		Clear: func(ctx context.Context) error {
			if s != nil {
				s.m, s.seen, s.deaf = m, map[string]bool{}, s.lies
			}
			return m.Clear(ctx)
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
		"store":              config(&Store{}, ExactlyOnce, nil),
		"sink":               config(&Store{}, ExactlyOnce, &sink{}),
		"sink at least once": config(&Store{}, AtLeastOnce, &sink{forgetful: true}),
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
		"ranges without rows":         config(&Store{lie: lie{dropsRows: true}}, ExactlyOnce, nil),
		"rows without ranges":         config(&Store{lie: lie{dropsRanges: true}}, ExactlyOnce, nil),
		"no names":                    config(&Store{lie: lie{dropsNames: true}}, ExactlyOnce, nil),
		"no gaps":                     config(&Store{lie: lie{dropsGaps: true}}, ExactlyOnce, nil),
		"no quarantine":               config(&Store{lie: lie{dropsKept: true}}, ExactlyOnce, nil),
		"no versions":                 config(&Store{lie: lie{ignoresVersions: true}}, ExactlyOnce, nil),
		"no corrections":              config(&Store{lie: lie{ignoresCorrections: true}}, ExactlyOnce, nil),
		"a correction that stays":     config(&Store{lie: lie{correctsTwice: true}}, ExactlyOnce, nil),
		"stored although it failed":   config(&Store{lie: lie{storesAndFails: true}}, ExactlyOnce, nil),
		"half of a group":             config(&Store{lie: lie{storesHalf: true}}, ExactlyOnce, nil),
		"no intents":                  config(&Store{lie: lie{dropsPending: true}}, ExactlyOnce, &sink{}),
		"at least once is not once":   config(&Store{}, ExactlyOnce, &sink{forgetful: true}),
		"a cut that was never stored": config(&Store{}, AtLeastOnce, &sink{lies: true}),
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

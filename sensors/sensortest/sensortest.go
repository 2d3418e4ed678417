package sensortest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

// patience is how long a source may take to give its first reading, or to notice
// that its context has ended.
const patience = 10 * time.Second

// Run checks a source. open makes a fresh one; it is called inside a bubble, once
// per check, and must make what the source talks to inside it as well.
func Run(t *testing.T, open func(t *testing.T, env sensors.Env) sensors.Source) {
	t.Helper()
	checks := []struct {
		name  string
		check func(t *testing.T, s sensors.Source) error
	}{
		{"appends to dst", appends},
		{"fills in series and time", fillsIn},
		{"keeps the meaning of its series", keepsMeaning},
		{"ends when its context has ended", honoursContext},
		{"closes twice and is then closed", closesTwice},
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, Env("suite"))
				if err := c.check(t, s); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		})
	}
}

// Env is an environment for tests: virtual time in a bubble, no log, no buses, the
// machine's own files.
func Env(sensor string) sensors.Env {
	return sensors.Env{
		Sensor: sensor,
		Tags:   edgeagent.MakePairs(map[string]string{"site": "test"}),
		Root:   "/", Dir: ".",
		Clock: clock.Go(),
	}
}

// next samples until there is at least one reading beyond dst.
func next(ctx context.Context, s sensors.Source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	n := len(dst)
	for start := time.Now(); time.Since(start) < patience; {
		var err error
		dst, err = s.Sample(ctx, dst)
		if len(dst) > n {
			return dst, nil
		}
		if err != nil {
			return dst, fmt.Errorf("sample: %w", err)
		}
		wait := 100 * time.Millisecond
		if p, ok := s.(sensors.Paced); ok {
			wait = max(p.Next(), time.Millisecond)
		}
		time.Sleep(wait) //nolint:forbidigo // in a bubble
	}
	return dst, fmt.Errorf("no reading within %s", patience)
}

func appends(t *testing.T, s sensors.Source) error {
	marker := edgeagent.Reading{Series: edgeagent.NewSeries(edgeagent.SeriesKey{Metric: "before"}), Value: 42}
	before := []edgeagent.Reading{marker, marker}
	dst := make([]edgeagent.Reading, 2, 512)
	copy(dst, before)
	got, err := next(t.Context(), s, dst)
	if err != nil {
		return err
	}
	if !slices.Equal(got[:2], before) {
		return errors.New("what was in dst before was changed")
	}
	if len(got) <= cap(dst) && &got[0] != &dst[0] {
		return errors.New("dst had room and was not used: a source must not allocate")
	}
	return nil
}

func fillsIn(t *testing.T, s sensors.Source) error {
	rs, err := next(t.Context(), s, nil)
	if err != nil {
		return err
	}
	for _, r := range rs {
		k := r.Series.Key()
		switch {
		case r.Series.IsZero():
			return errors.New("a reading without a series")
		case k.Sensor == "" || k.Metric == "" || strings.Contains(k.Metric, "/"):
			return fmt.Errorf("bad series name %q", r.Series)
		case k.Resolution > 9:
			return fmt.Errorf("%s: resolution %d", r.Series, k.Resolution)
		case k.Tags != Env("").Tags:
			return fmt.Errorf("%s: tags %q are not the configured ones", r.Series, k.Tags)
		case r.At.Wall == 0 && !r.Recorded:
			return fmt.Errorf("%s: no time", r.Series)
		case r.Quality > edgeagent.Bad:
			return fmt.Errorf("%s: quality %d", r.Series, r.Quality)
		}
	}
	return nil
}

func keepsMeaning(t *testing.T, s sensors.Source) error {
	known := map[string]edgeagent.Series{}
	for range 3 {
		rs, err := next(t.Context(), s, nil)
		if err != nil && len(known) > 0 {
			return nil // a short file has ended
		}
		if err != nil {
			return err
		}
		for _, r := range rs {
			if was, ok := known[r.Series.String()]; ok && was != r.Series {
				return fmt.Errorf("%s is another series in the next sample: %+v, then %+v", r.Series, was.Key(), r.Series.Key())
			}
			known[r.Series.String()] = r.Series
		}
		time.Sleep(time.Second) //nolint:forbidigo // in a bubble
	}
	return nil
}

func honoursContext(t *testing.T, s sensors.Source) error {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	before := make([]edgeagent.Reading, 1)
	got, _ := s.Sample(ctx, before)
	if took := time.Since(start); took > patience {
		return fmt.Errorf("a sample with an ended context took %s", took)
	}
	if len(got) < 1 {
		return errors.New("dst was lost")
	}
	return nil
}

func closesTwice(t *testing.T, s sensors.Source) error {
	for range 2 {
		if err := s.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	got, err := s.Sample(t.Context(), make([]edgeagent.Reading, 1))
	if err == nil {
		return errors.New("a closed source can be sampled")
	}
	if len(got) != 1 {
		return fmt.Errorf("a closed source gave %d readings", len(got)-1)
	}
	return nil
}

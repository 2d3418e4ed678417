package sensortest

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// source is a good source unless a test spoils it.
type source struct {
	env    sensors.Env
	series edgeagent.Series
	closed bool
	spoil  func(ctx context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error)
}

func newSource(env sensors.Env) *source {
	return &source{env: env, series: env.NewSeries("value", "1", edgeagent.Gauge)}
}

func (s *source) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.spoil != nil {
		return s.spoil(ctx, s, dst)
	}
	if s.closed {
		return dst, errors.New("closed")
	}
	return append(dst, edgeagent.Reading{Series: s.series, At: s.env.Now(), Value: math.Pi}), nil
}

func (s *source) Close() error { s.closed = true; return nil }

func TestGoodSourcePasses(t *testing.T) {
	Run(t, func(_ *testing.T, env sensors.Env) sensors.Source { return newSource(env) })
}

// Each check must be able to fail.
func TestChecksFindWhatTheyLookFor(t *testing.T) {
	type spoil = func(ctx context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error)
	reading := func(s *source) edgeagent.Reading { return edgeagent.Reading{Series: s.series, At: s.env.Now()} }
	tests := []struct {
		name  string
		check func(t *testing.T, s sensors.Source) error
		spoil spoil
	}{
		{"overwrites dst", appends, func(_ context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			dst = append(dst[:1], reading(s))
			return append(dst, reading(s)), nil
		}},
		{"makes its own slice", appends, func(_ context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			return append(append([]edgeagent.Reading(nil), dst...), reading(s)), nil
		}},
		{"never gives a reading", fillsIn, func(_ context.Context, _ *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			return dst, nil
		}},
		{"no series", fillsIn, func(_ context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			return append(dst, edgeagent.Reading{At: s.env.Now()}), nil
		}},
		{"no time", fillsIn, func(_ context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			return append(dst, edgeagent.Reading{Series: s.series}), nil
		}},
		{"tags lost", fillsIn, func(_ context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			s.env.Tags = edgeagent.Pairs{}
			return append(dst, edgeagent.Reading{Series: s.env.NewSeries("value", "1", edgeagent.Gauge), At: s.env.Now()}), nil
		}},
		{"unit changes", keepsMeaning, func(_ context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			r := reading(s)
			s.series = s.env.NewSeries("value", time.Now().String(), edgeagent.Gauge)
			return append(dst, r), nil
		}},
		{"deaf to its context", honoursContext, func(_ context.Context, _ *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			time.Sleep(time.Minute)
			return dst, nil
		}},
		{"alive after close", closesTwice, func(_ context.Context, s *source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			return append(dst, reading(s)), nil
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource(Env("suite"))
				s.spoil = tt.spoil
				if err := tt.check(t, s); err == nil {
					t.Error("the check passed")
				}
			})
		})
	}
}

package sensors_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

func TestCalibration(t *testing.T) {
	table := [][]float64{{0, 1}, {10, 12}, {20, 20}}
	tests := []struct {
		name    string
		k       sensors.Calibration
		in, out float64
	}{
		{"none", sensors.Calibration{}, 3.5, 3.5},
		{"offset", sensors.Calibration{Offset: -0.3}, 21.5, 21.2},
		{"gain, then offset", sensors.Calibration{Gain: 2, Offset: 1}, 5, 11},
		{"table at a point", sensors.Calibration{Table: table}, 10, 12},
		{"table between points", sensors.Calibration{Table: table}, 15, 16},
		{"table below", sensors.Calibration{Table: table}, -10, -10},
		{"table above", sensors.Calibration{Table: table}, 30, 28},
		{"table, gain, offset", sensors.Calibration{Table: table, Gain: 10, Offset: 5}, 10, 125},
	}
	for _, tt := range tests {
		if got := tt.k.Apply(tt.in); math.Abs(got-tt.out) > 1e-9 {
			t.Errorf("%s: %v becomes %v, want %v", tt.name, tt.in, got, tt.out)
		}
	}
}

// A table that rises makes values that rise.
func TestTableIsMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var k sensors.Calibration
		x, y := 0.0, 0.0
		for range rapid.IntRange(2, 10).Draw(t, "points") {
			x += rapid.Float64Range(0.1, 10).Draw(t, "x")
			y += rapid.Float64Range(0, 10).Draw(t, "y")
			k.Table = append(k.Table, []float64{x, y})
		}
		a := rapid.Float64Range(-50, 150).Draw(t, "a")
		b := a + rapid.Float64Range(0, 50).Draw(t, "b")
		if k.Apply(a) > k.Apply(b)+1e-9 {
			t.Fatalf("%v: %v → %v, %v → %v", k.Table, a, k.Apply(a), b, k.Apply(b))
		}
	})
}

func TestConditioningIsChecked(t *testing.T) {
	low, high := 1.0, 0.0
	c := sensors.Conditioning{
		Calibrate: map[string]sensors.Calibration{"t": {Gain: math.Inf(1), Table: [][]float64{{1, 2}, {1, 3}, {4}}}},
		Limits:    map[string]sensors.Limits{"t": {Min: &low, Max: &high, MaxRate: -1}},
		Samples:   65, Combine: "mode", Deadband: map[string]float64{"t": -1}, MaxSilence: -time.Second,
	}
	var got []string
	for _, err := range c.Validate().(interface{ Unwrap() []error }).Unwrap() {
		for _, e := range flat(err) {
			var f *edgeagent.FieldError
			if !errors.As(e, &f) {
				t.Errorf("%v names no key", e)
				continue
			}
			got = append(got, f.Path)
		}
	}
	want := []string{"calibrate.t.gain", "calibrate.t.table[1]", "calibrate.t.table[2]", "limits.t.min", "limits.t.max_rate", "deadband.t", "samples", "combine", "max_silence"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func flat(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, flat(e)...)
		}
		return out
	}
	return []error{err}
}

// ramp gives the values of a list, one a sample.
func ramp(values []float64) func(context.Context, int, *fake, []edgeagent.Reading) ([]edgeagent.Reading, error) {
	return func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
		return s.reading(dst, values[(n-1)%len(values)]), nil
	}
}

func conditioned(t *testing.T, c sensors.Conditioning, values []float64, take int) (out []edgeagent.Reading, st sensors.SourceStats) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		src, k := &fake{sample: ramp(values)}, &sink{}
		spec := src.spec("s", time.Second, clock.Go())
		spec.Config.Conditioning = c
		s := bench(t, k, sensors.Options{Clock: clock.Go()}, []sensors.Spec{spec}, func(*sensors.Scheduler) {
			time.Sleep(time.Duration(take)*time.Second + 600*time.Millisecond)
			synctest.Wait()
		})
		out, st = k.got[:min(take, len(k.got))], s.Stats()[0]
	})
	return out, st
}

func valuesOf(rs []edgeagent.Reading) (out []any) {
	for _, r := range rs {
		out = append(out, r.Value, r.Quality.String())
	}
	return out
}

func TestReadingsAreConditioned(t *testing.T) {
	low, high := 0.0, 50.0
	tests := []struct {
		name   string
		c      sensors.Conditioning
		values []float64
		want   []any
	}{
		{"nothing to do", sensors.Conditioning{}, []float64{1, 2, 3}, []any{1.0, "good", 2.0, "good", 3.0, "good"}},
		{
			"calibrated, then limited",
			sensors.Conditioning{Calibrate: map[string]sensors.Calibration{"value": {Offset: 10}}, Limits: map[string]sensors.Limits{"value": {Min: &low, Max: &high}}},
			[]float64{30, 45, -20},
			[]any{40.0, "good", 55.0, "bad", -10.0, "bad"},
		},
		{
			"too fast is suspect, and is what the next is held against",
			sensors.Conditioning{Limits: map[string]sensors.Limits{"value": {MaxRate: 5}}},
			[]float64{10, 30, 31},
			[]any{10.0, "good", 30.0, "suspect", 31.0, "good"},
		},
		{
			"what cannot be says nothing of the next",
			sensors.Conditioning{Limits: map[string]sensors.Limits{"value": {Max: &high, MaxRate: 5}}},
			[]float64{10, 900, 11},
			[]any{10.0, "good", 900.0, "bad", 11.0, "good"},
		},
		{"another metric", sensors.Conditioning{Calibrate: map[string]sensors.Calibration{"other": {Offset: 10}}}, []float64{1, 2}, []any{1.0, "good", 2.0, "good"}},
		{"mean of four", sensors.Conditioning{Samples: 4}, []float64{1, 2, 3, 10, 5, 5, 5, 5}, []any{4.0, "good", 5.0, "good"}},
		{"median of three", sensors.Conditioning{Samples: 3, Combine: "median"}, []float64{1, 900, 2, 5, 4, 6}, []any{2.0, "good", 5.0, "good"}},
		{"median of four", sensors.Conditioning{Samples: 4, Combine: "median"}, []float64{1, 900, 2, 4}, []any{3.0, "good"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := conditioned(t, tt.c, tt.values, len(tt.want)/2)
			if diff := cmp.Diff(tt.want, valuesOf(got)); diff != "" {
				t.Errorf("readings (-want +got):\n%s", diff)
			}
		})
	}
}

// A sample that fails within a reading is told of, and the others are not lost.
func TestOversamplingAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, k := &fake{}, &sink{}
		src.sample = func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			if n == 3 {
				return dst, errors.New("wrong checksum")
			}
			return s.reading(dst, float64(n)), nil
		}
		spec := src.spec("s", time.Second, clock.Go())
		spec.Config.Samples = 4
		s := bench(t, k, sensors.Options{Clock: clock.Go()}, []sensors.Spec{spec}, func(*sensors.Scheduler) { synctest.Wait() })
		if diff := cmp.Diff([]any{1.5, "good"}, valuesOf(k.got)); diff != "" {
			t.Errorf("readings (-want +got):\n%s", diff)
		}
		if st := s.Stats()[0]; st.Health.Code != sensors.CodePartial || st.LastError != "wrong checksum" {
			t.Errorf("health %+v, error %q", st.Health, st.LastError)
		}
	})
}

// A source that paces itself has no sample to take more of.
func TestPacedSourceIsNotOversampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := eager{&fake{}}
		spec := src.spec("s", time.Second, clock.Go())
		spec.Open = func(context.Context) (sensors.Source, error) { return src, nil }
		spec.Config.Samples = 2
		bench(t, &sink{}, sensors.Options{Clock: clock.Go()}, []sensors.Spec{spec}, func(s *sensors.Scheduler) {
			synctest.Wait()
			if st := s.Stats()[0]; st.Health.Code != sensors.CodeOpen || st.Health.Hint == "" {
				t.Errorf("health %+v", st.Health)
			}
		})
	})
}

func TestConditioningAllocatesNothing(t *testing.T) {
	low, high := -40.0, 85.0
	c := sensors.Conditioning{
		Calibrate: map[string]sensors.Calibration{"value": {Offset: 1, Table: [][]float64{{0, 0}, {10, 11}, {20, 20}}}},
		Limits:    map[string]sensors.Limits{"value": {Min: &low, Max: &high, MaxRate: 5}},
		Samples:   4, Combine: "median",
	}
	src := &fake{env: sensors.Env{Sensor: "s", Clock: clock.Go()}}
	s := src.env.NewSeries("value", "Cel", edgeagent.Gauge)
	steady := steadySource{s}
	run := sensors.Conditioner(c)
	var buf []edgeagent.Reading
	if n := testing.AllocsPerRun(1000, func() {
		var err error
		if buf, err = run(t.Context(), steady, buf[:0]); err != nil || len(buf) != 1 {
			t.Fatal(buf, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a sample", n)
	}
}

type steadySource struct{ s edgeagent.Series }

func (x steadySource) Sample(_ context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	return append(dst, edgeagent.Reading{Series: x.s, Value: 21.5}), nil
}
func (steadySource) Close() error { return nil }

// BenchmarkConditioning is what calibration, limits and oversampling cost beside the
// samples themselves.
func BenchmarkConditioning(b *testing.B) {
	low, high := -40.0, 85.0
	limits := map[string]sensors.Limits{"value": {Min: &low, Max: &high, MaxRate: 5}}
	table := map[string]sensors.Calibration{"value": {Gain: 1.02, Offset: 1, Table: [][]float64{{0, 0}, {10, 11}, {20, 20}, {30, 31}}}}
	for _, bb := range []struct {
		name string
		c    sensors.Conditioning
	}{
		{"limits", sensors.Conditioning{Limits: limits}},
		{"table and limits", sensors.Conditioning{Calibrate: table, Limits: limits}},
		{"median of 5", sensors.Conditioning{Calibrate: table, Limits: limits, Samples: 5, Combine: "median"}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			src := &fake{env: sensors.Env{Sensor: "s", Clock: clock.Go()}}
			steady := steadySource{src.env.NewSeries("value", "Cel", edgeagent.Gauge)}
			run := sensors.Conditioner(bb.c)
			var buf []edgeagent.Reading
			b.ReportAllocs()
			for b.Loop() {
				buf, _ = run(b.Context(), steady, buf[:0])
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)*1e6, "s/million-readings")
		})
	}
}

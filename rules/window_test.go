package rules

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent/rules/expression"
)

// naive is a window as it is defined: all values of the panes it covers.
type naive struct {
	width int64
	vs    []sample
}

func (w *naive) at(now int64) []sample {
	oldest := now/w.width - panes + 1
	var out []sample
	for _, s := range w.vs {
		if s.at/w.width >= oldest && s.at <= now {
			out = append(out, s)
		}
	}
	return out
}

func close2(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b))
}

// TestPaneWindowAgainstNaive holds the two stacks against adding everything up.
func TestPaneWindowAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const unit = int64(time.Second)
		w := newPaneWindow(600*time.Second, 0)
		line := newTrendWindow(600 * time.Second)
		ref := naive{width: 10 * unit}
		now := unit * rapid.Int64Range(0, 1000).Draw(t, "start")
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			now += rapid.SampledFrom([]int64{0, 1, 3, 10, 25, 60, 590, 700}).Draw(t, "wait") * unit
			if rapid.Bool().Draw(t, "add") {
				v := float64(rapid.IntRange(-5, 5).Draw(t, "v"))
				w.add(now, v)
				line.add(now, v)
				ref.vs = append(ref.vs, sample{now, v})
			}
			w.advance(now)
			line.advance(now)
			checkAggregate(t, w.total(), ref.at(now))
			checkSlope(t, line.total().slope(), ref.at(now))
			if at := w.expires(); at <= now {
				t.Fatalf("at %d the next expiry %d has passed", now, at)
			}
		}
	})
}

func checkAggregate(t *rapid.T, got aggregate, vs []sample) {
	t.Helper()
	if int(got.n) != len(vs) {
		t.Fatalf("%d values, want %d", got.n, len(vs))
	}
	if len(vs) == 0 {
		return
	}
	sum, least, most, rises, changes := 0.0, math.Inf(1), math.Inf(-1), 0.0, 0
	for i, s := range vs {
		sum, least, most = sum+s.v, min(least, s.v), max(most, s.v)
		if i > 0 {
			rises += rise(vs[i-1].v, s.v)
			if vs[i-1].v != s.v {
				changes++
			}
		}
	}
	mean, m2 := sum/float64(len(vs)), 0.0
	for _, s := range vs {
		m2 += (s.v - mean) * (s.v - mean)
	}
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"sum", got.sum, sum},
		{"min", got.min, least},
		{"max", got.max, most},
		{"m2", got.m2, m2},
		{"first", got.first, vs[0].v},
		{"last", got.last, vs[len(vs)-1].v},
		{"rise", got.rise, rises},
		{"changes", float64(got.changes), float64(changes)},
		{"firstAt", float64(got.firstAt), float64(vs[0].at)},
		{"lastAt", float64(got.lastAt), float64(vs[len(vs)-1].at)},
	} {
		if !close2(c.got, c.want) {
			t.Fatalf("%s is %v, want %v of %v", c.what, c.got, c.want, vs)
		}
	}
}

func checkSlope(t *rapid.T, got float64, vs []sample) {
	t.Helper()
	var n, st, sv, stt, stv float64
	for _, s := range vs {
		x := float64(s.at) / float64(time.Second)
		n, st, sv, stt, stv = n+1, st+x, sv+s.v, stt+x*x, stv+x*s.v
	}
	want := (n*stv - st*sv) / (n*stt - st*st)
	if n*stt-st*st < 0.5 {
		return // one moment only, or next to it
	}
	if math.Abs(got-want) > 1e-6*max(1, math.Abs(want)) {
		t.Fatalf("slope is %v, want %v of %v", got, want, vs)
	}
}

// TestLateValues: a late value enters its own pane, wherever that stands.
func TestLateValues(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		w, ref := newPaneWindow(600, 0), naive{width: 10}
		now := int64(0)
		for range 100 {
			now += int64(r.IntN(40))
			at := max(0, now-int64(r.IntN(4)*r.IntN(200)))
			v := float64(r.IntN(9))
			w.advance(now)
			w.add(at, v)
			ref.vs = append(ref.vs, sample{at, v})
			got, sum, most := w.total(), 0.0, math.Inf(-1)
			in := ref.at(now)
			for _, s := range in {
				sum, most = sum+s.v, max(most, s.v)
			}
			if int(got.n) != len(in) || got.sum != sum || len(in) > 0 && got.max != most {
				t.Fatalf("seed %d: n=%d sum=%v max=%v, want %d %v %v", seed, got.n, got.sum, got.max, len(in), sum, most)
			}
		}
	}
}

func TestCoverage(t *testing.T) {
	w := newPaneWindow(600, 0)
	w.add(5, 1)
	if w.covered(500) || !w.covered(595) {
		t.Error("covered too early or too late")
	}
	w.advance(2000)
	if w.expires() != never || w.covered(2000) {
		t.Error("an empty window is covered or has something to forget")
	}
	w.add(2001, 1)
	if w.covered(2500) {
		t.Error("a gap as long as the window did not begin it anew")
	}
}

func sampleWindowOf(d time.Duration, n int, exact bool) *sampleWindow {
	return newSampleWindow(expression.Window{Duration: d, Count: n}, exact, 0)
}

func TestSamplesByCount(t *testing.T) {
	w := sampleWindowOf(0, 4, false)
	for i, v := range []float64{1, 2, 3, 4, 5, 6} {
		w.add(int64(i), v)
	}
	if a := w.aggregate(); a.n != 4 || a.first != 3 || a.last != 6 || a.sum != 18 {
		t.Errorf("%+v", a)
	}
	var scratch [maxSamples]float64
	if got := w.quantile(0.5, scratch[:]); got != 4.5 {
		t.Errorf("median %v", got)
	}
	if got := w.mad(scratch[:]); got != 1 {
		t.Errorf("mad %v", got)
	}
}

func TestExactWindowSaysWhenItIsNot(t *testing.T) {
	w := sampleWindowOf(time.Second, 0, true)
	for i := range int64(maxSamples) {
		w.add(i, 1)
	}
	if !w.complete(maxSamples) {
		t.Fatal("a full window is not complete")
	}
	w.add(maxSamples, 1)
	if w.complete(maxSamples) {
		t.Error("a value was left out silently")
	}
	if !w.complete(int64(time.Second) + 1) {
		t.Error("it never is complete again")
	}
}

// TestSketch: above 256 samples quantiles are those of a sketch, near the exact
// ones whatever the offset, and again one window after the level has moved.
func TestSketch(t *testing.T) {
	var scratch [maxSamples]float64
	for _, offset := range []float64{0, 101325, -300} {
		r := rand.New(rand.NewPCG(3, 4))
		w := sampleWindowOf(60*time.Second, 0, false)
		var all []sample
		level := offset
		for i := range int64(9000) {
			at := i * int64(20*time.Millisecond)
			if i == 3000 {
				level += 50
			}
			v := level + r.NormFloat64()
			w.add(at, v)
			all = append(all, sample{at, v})
			if i < 300 || i > 3000 && i < 6500 || i%500 != 499 {
				continue
			}
			if w.sketch == nil {
				t.Fatal("no sketch")
			}
			var vs []float64
			for _, s := range all {
				if s.at/w.sketch.width > at/w.sketch.width-panes {
					vs = append(vs, s.v)
				}
			}
			slices.Sort(vs)
			spread := quantileOf(vs, 0.9) - quantileOf(vs, 0.1)
			for _, p := range []float64{0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98} {
				got, want := w.quantile(p, scratch[:]), quantileOf(vs, p)
				if math.Abs(got-want) > 0.12*spread+0.1 {
					t.Errorf("offset %v after %d: quantile %v is %v, want %v (spread %v)", offset, i, p, got, want, spread)
				}
			}
		}
	}
}

func TestSketchEndsWithItsValues(t *testing.T) {
	w := sampleWindowOf(time.Second, 0, false)
	for i := range int64(1000) {
		w.add(i*int64(time.Millisecond), 5)
	}
	if w.sketch == nil || w.quantile(0.5, nil) != 5 || w.mad(nil) != 0 {
		t.Fatalf("a constant has quantile %v, mad %v", w.quantile(0.5, nil), w.mad(nil))
	}
	w.advance(int64(time.Minute))
	if w.sketch != nil || w.covered(int64(time.Minute)) {
		t.Error("an empty sketch stays")
	}
	w.add(int64(time.Minute), 1)
	if w.n != 1 {
		t.Error("samples are not kept again")
	}
}

// TestWindowsSurviveTheirCodec: what is read back goes on in the same way.
func TestWindowsSurviveTheirCodec(t *testing.T) {
	specs := []windowSpec{
		{class: paneClass, span: expression.Window{Duration: 600}},
		{class: trendClass, span: expression.Window{Duration: 600}},
		{class: sampleClass, span: expression.Window{Count: 7}},
		{class: sampleClass, span: expression.Window{Duration: 600}},
		{class: sampleClass, span: expression.Window{Duration: 600}, exact: true},
	}
	for _, s := range specs {
		r := rand.New(rand.NewPCG(1, 1))
		w := s.make(0)
		now := int64(0)
		for i := range 3000 {
			now += int64(r.IntN(3))
			if i%700 == 699 {
				now += 900
			}
			w.add(now, float64(r.IntN(100)))
			if i%97 != 0 {
				continue
			}
			var e, again encoder
			w.encode(&e)
			next := s.make(0)
			d := decoder{b: e.b}
			if next.decode(&d); d.err != nil || len(d.b) > 0 {
				t.Fatalf("%+v: %v, %d bytes left", s, d.err, len(d.b))
			}
			next.encode(&again)
			if string(again.b) != string(e.b) {
				t.Fatalf("%+v changed in its codec", s)
			}
			w = next
		}
	}
}

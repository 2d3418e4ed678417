package rules_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// BenchmarkEngine is what a reading costs that rules look at.
func BenchmarkEngine(b *testing.B) {
	for _, bench := range []struct {
		name, when string
		rules      int
	}{
		{"two terms", "x > 80 and x < 200", 1},
		{"two terms, one of a window", `x > 80 and x - avg(x, "5m") > 2`, 1},
		{"two terms, 10 rules", `x > 80 and x - avg(x, "5m") > 2`, 10},
		{"median of 20", `median(x, "n=20") > 80`, 1},
		{"slope", `slope(x, "5m") > 80`, 1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var rs []rules.Rule
			for i := range bench.rules {
				rs = append(rs, rule1(bench.when, func(r *rules.Rule) { r.ID = fmt.Sprint("r", i) }))
			}
			e := engineOf(b, rs...)(1)
			r := []edgeagent.Reading{{Series: series("s/x"), Value: 20}}
			var out []edgeagent.Event
			b.ReportAllocs()
			for b.Loop() {
				r[0].At.Run += int64(time.Second)
				r[0].At.Wall += int64(time.Second)
				r[0].Value = 20 + float64(r[0].At.Run>>30&7)
				out = e.Eval(out[:0], r)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/reading")
		})
	}
}

// BenchmarkThousandRules is a second of 1,000 rules with a window each, over 1,000
// series that speak once a second, timers included: its time by a second is the
// share of a core.
func BenchmarkThousandRules(b *testing.B) {
	var rs []rules.Rule
	var readings []edgeagent.Reading
	for i := range 1000 {
		name := fmt.Sprintf("s%d/x", i)
		r := rule1(`x > 80 and x - avg(x, "5m") > 2`, func(r *rules.Rule) { r.ID = fmt.Sprint("r", i) })
		r.Inputs = map[string]string{"x": name}
		rs = append(rs, r)
		readings = append(readings, edgeagent.Reading{Series: series(name), Value: float64(i % 70)})
	}
	e := engineOf(b, rs...)(1)
	var out []edgeagent.Event
	second := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		second++
		for i := range readings { // spread over the second
			readings[i].At.Run = second*1e9 + int64(i)*1e6
			out = e.Eval(out[:0], readings[i:i+1])
		}
	}
	b.ReportMetric(100*b.Elapsed().Seconds()/float64(b.N), "%core")
	b.ReportMetric(float64(e.Stats().Memory)/1000, "bytes/rule")
}

func BenchmarkSnapshot(b *testing.B) {
	e, err := rules.Compile(everything())
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	for b.Loop() {
		buf = e.Snapshot(buf[:0])
	}
	b.ReportMetric(float64(len(buf)), "bytes")
}

func TestWindowsAllocateNothing(t *testing.T) {
	e := engineOf(t, rule1(`x > 80 and x - avg(x, "5m") > 2 or median(x, "1m") > 90 or slope(x, "1m") > 5`))(1)
	r := []edgeagent.Reading{{Series: series("s/x"), Value: 20}}
	e.Eval(nil, r)
	if n := testing.AllocsPerRun(200, func() {
		r[0].At.Run += int64(time.Second)
		e.Eval(nil, r)
	}); n != 0 {
		t.Errorf("%v allocations a reading", n)
	}
}

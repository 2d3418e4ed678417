package anomaly_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/anomaly"
)

// TestForRules asks a detector through the rules: the score is unknown while it learns,
// the alert is raised once, and its reason stands in the alarm's text.
func TestForRules(t *testing.T) {
	file := rules.File{
		Version: 1,
		Rules: []rules.Rule{{
			ID: "strange", Inputs: map[string]string{"x": "pump/vibration"},
			When: "anomaly_alert(x)", Do: []rules.Action{{Alert: &rules.Alert{Text: "{{.reason}}"}}},
		}},
	}
	e, err := rules.Options{Detector: anomaly.ForRules}.Compile([]rules.File{file})
	if err != nil {
		t.Fatal(err)
	}
	series := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "pump", Metric: "vibration", Resolution: edgeagent.DefaultResolution})
	var texts []string
	for i := range 1001 {
		x := math.Sin(float64(i) * 0.7)
		if i == 900 {
			x = 9
		}
		run := int64(i) * int64(5*time.Minute)
		for _, ev := range e.Eval(nil, []edgeagent.Reading{{Series: series, At: edgeagent.Instant{Wall: run, Run: run}, Value: x}}) {
			if ev.Attrs["state"] == edgeagent.AlarmFiring {
				texts = append(texts, ev.Text)
			}
		}
	}
	if diff := cmp.Diff([]string{"beyond all values so far, by 4e+02 % of their range"}, texts); diff != "" {
		t.Error(diff)
	}
}

func TestWatch(t *testing.T) {
	lo := 0.0
	facts := rules.Facts{Min: &lo, Every: time.Minute}
	w, again := anomaly.ForRules("a/b", facts), anomaly.ForRules("a/b", facts)
	at := func(i int) edgeagent.Instant { return edgeagent.Instant{Run: int64(i) * int64(time.Minute)} }
	if score, alert := w.Observe(at(0), false, 5); !math.IsNaN(score) || alert || w.Reason() != "" {
		t.Errorf("score %v, alert %v, reason %q while learning", score, alert, w.Reason())
	}
	if score, alert := w.Observe(at(1), false, -5); score != 1 || !alert || w.Reason() != "outside the physical limit 0" {
		t.Errorf("score %v, alert %v, reason %q below the limit", score, alert, w.Reason())
	}
	state := w.AppendState(nil)
	if err := again.SetState(state); err != nil || again.Reason() != w.Reason() {
		t.Fatalf("%v, reason %q", err, again.Reason())
	}
	for i := 2; i < 3000; i++ {
		x := float64(i % 7)
		s1, a1 := w.Observe(at(i), false, x)
		s2, a2 := again.Observe(at(i), false, x)
		if a1 != a2 || math.Float64bits(s1) != math.Float64bits(s2) {
			t.Fatalf("reading %d: %v %v, restored %v %v", i, s1, a1, s2, a2)
		}
	}
	for n := range len(state) {
		if again.SetState(state[:n]) == nil {
			t.Fatalf("%d bytes were taken", n)
		}
	}
	if w.Size() > 4096 || w.Size() < 2000 {
		t.Errorf("size %d", w.Size())
	}
}

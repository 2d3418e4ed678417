package agent

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/rules"
)

// capturing has one rule that captures n readings at most.
func capturing(n int) rules.File {
	return rules.File{Rules: []rules.Rule{{
		ID: "r", Inputs: map[string]string{"x": "s/x"}, When: "x > 5",
		Do: []rules.Action{{Alert: &rules.Alert{Capture: &rules.Capture{Before: time.Minute, After: 10 * time.Second, Readings: n}}}},
	}}}
}

// feed puts readings 1 s apart.
func feed(t *testing.T, p *pipeline, from, to int, v float64) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := p.Put(t.Context(), readingOf(v, time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCapturesAreStored: what was read before and after goes to the event stream,
// under the alarm's id, behind the alarm.
func TestCapturesAreStored(t *testing.T) {
	b := &fakeBuffer{}
	p := newTestPipeline(b, rulesOf(t, capturing(512)))
	feed(t, p, 0, 100, 1)
	feed(t, p, 100, 140, 9)
	var events []string
	for _, line := range b.log {
		if line != "1 readings" {
			events = append(events, line)
		}
	}
	const id = "r/-/00000000-100000"
	if diff := cmp.Diff([]string{"alarm " + id + " 1", "event " + id + " 1"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	want := edgeagent.Event{
		At: edgeagent.Instant{Wall: b.events[1].At.Wall, Run: int64(110 * time.Second)}, Kind: edgeagent.KindCapture, ID: id, N: 1,
		Text: "part 1 of 1 of 71 readings from around the alarm", Attrs: map[string]string{"rule": "r", "parts": "1", "readings": "71"},
		Data: []byte("71 readings"),
	}
	if diff := cmp.Diff(want, b.events[1]); diff != "" {
		t.Errorf("capture (-want +got):\n%s", diff)
	}
	if p.accepted.Load() != 140+2 {
		t.Errorf("%d records accepted", p.accepted.Load())
	}
}

func TestCapturesWait(t *testing.T) {
	b := &fakeBuffer{}
	p := newTestPipeline(b, &fakeRules{timer: -1, quiet: true})
	capture := func(id string, readings int) {
		p.turn.Lock()
		defer p.turn.Unlock()
		x := rules.Effect{Rule: "r", Alarm: id, Capture: &rules.Captured{Readings: make([]edgeagent.Reading, readings), Thinned: true}}
		p.effects = []rules.Effect{{Alarm: "other", Output: &rules.SetOutput{}}, x}
		p.takeCaptures()
		p.appendCaptures(t.Context())
	}
	b.refuseAlarms(buffer.ErrFull)
	capture("a", 1600)
	capture("b", 1500)
	if n := p.captures.depth.Load(); n != 31 || p.captures.dropped.Load() != 0 || p.captureRefusal.Load() == nil {
		t.Errorf("%d wait, %d dropped", n, p.captures.dropped.Load())
	}
	if p.next()-p.clock.Run() > alarmRetry {
		t.Error("nothing is tried again")
	}
	capture("c", 200) // does not fit any more, and goes whole
	if n := p.captures.depth.Load(); n != 31 || p.captures.dropped.Load() != 2 {
		t.Errorf("%d wait, %d dropped", n, p.captures.dropped.Load())
	}
	if len(p.effects) != 1 || p.effects[0].Alarm != "other" {
		t.Errorf("effects left: %v", p.effects)
	}
	b.refuseAlarms(nil)
	b.invalid = "a"
	p.finish(t.Context())
	if p.captures.depth.Load() != 0 || p.captures.stored.Load() != 15 || p.captures.dropped.Load() != 2+16 || p.captureRefusal.Load() != nil {
		t.Errorf("%d stored, %d dropped", p.captures.stored.Load(), p.captures.dropped.Load())
	}
	for i, ev := range b.events {
		if ev.ID != "b" || ev.N != uint32(i+1) || ev.Attrs["thinned"] != "true" || ev.Attrs["parts"] != "15" {
			t.Errorf("event %d is %v", i, ev)
		}
	}
	if !hasCode(p, "captures-dropped") {
		t.Error("health says nothing")
	}

	b.refuseAlarms(errors.New("gone"))
	capture("d", 1)
	p.finish(t.Context())
	if n := p.captures.dropped.Load(); n != 19 || p.captures.depth.Load() != 0 {
		t.Errorf("%d dropped at the end", n)
	}
	b.captureErr = fmt.Errorf("cannot be packed")
	capture("e", 1)
	if n := p.captures.dropped.Load(); n != 20 {
		t.Errorf("%d dropped", n)
	}
}

func hasCode(p *pipeline, code string) bool {
	for _, h := range p.troubles() {
		if h.Code == code {
			return true
		}
	}
	return false
}

package rules

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// model is the machine told otherwise: it walks nanosecond by nanosecond and
// counts those in which the condition held.
type model struct {
	phase Phase
	held  int64
}

// elapse lets one nanosecond pass under the conditions as they were.
func (m *model) elapse(when, clear expression.Truth) {
	if m.phase == Pending && when == expression.True || m.phase == Clearing && clear == expression.True {
		m.held++
	}
}

// decide looks at the conditions as they are now.
func (m *model) decide(t timing, when, clear expression.Truth) transition {
	switch {
	case m.phase == Idle && when == expression.True:
		m.phase, m.held = Pending, 0
	case m.phase == Pending && when == expression.False:
		m.phase = Idle
	case m.phase == Firing && clear == expression.True:
		m.phase, m.held = Clearing, 0
	case m.phase == Clearing && clear == expression.False:
		m.phase = Firing
	}
	switch {
	case m.phase == Pending && when == expression.True && m.held >= t.hold:
		m.phase = Firing
		return fired
	case m.phase == Clearing && clear == expression.True && m.held >= t.clearHold:
		m.phase = Idle
		return cleared
	}
	return noTransition
}

type moment struct {
	at int64
	tr transition
}

// TestMachineAgainstModel drives the machine from deadline to deadline and the
// model through every nanosecond: both raise the same at the same moments.
func TestMachineAgainstModel(t *testing.T) {
	truths := []expression.Truth{expression.False, expression.Unknown, expression.True}
	rapid.Check(t, func(t *rapid.T) {
		tm := timing{hold: rapid.Int64Range(0, 6).Draw(t, "for"), clearHold: rapid.Int64Range(0, 6).Draw(t, "clear_for")}
		changes := map[int64][2]expression.Truth{}
		at := int64(0)
		for range rapid.IntRange(1, 20).Draw(t, "changes") {
			changes[at] = [2]expression.Truth{
				rapid.SampledFrom(truths).Draw(t, "when"),
				rapid.SampledFrom(truths).Draw(t, "clear"),
			}
			at += rapid.Int64Range(0, 5).Draw(t, "gap")
		}
		end := at + 20

		var machineSaid, modelSaid []moment
		var m machine
		now := [2]expression.Truth{expression.Unknown, expression.Unknown}
		step := func(at int64) {
			if tr := m.step(tm, now[0], now[1], at); tr != noTransition {
				machineSaid = append(machineSaid, moment{at, tr})
			}
		}
		for at := int64(0); at <= end; at++ {
			if c, ok := changes[at]; ok {
				now = c
				step(at)
			} else if m.deadline(tm) == at {
				step(at)
			}
			if d := m.deadline(tm); d <= at {
				t.Fatalf("at %d the deadline %d has passed", at, d)
			}
		}

		var ref model
		now = [2]expression.Truth{expression.Unknown, expression.Unknown}
		effective := func() (when, clear expression.Truth) {
			if now[0] == expression.True {
				return now[0], expression.False
			}
			return now[0], now[1]
		}
		for at := int64(0); at <= end; at++ {
			if at > 0 {
				ref.elapse(effective())
			}
			if c, ok := changes[at]; ok {
				now = c
			}
			when, clear := effective()
			if tr := ref.decide(tm, when, clear); tr != noTransition {
				modelSaid = append(modelSaid, moment{at, tr})
			}
		}
		if len(machineSaid) != len(modelSaid) {
			t.Fatalf("machine %v, model %v", machineSaid, modelSaid)
		}
		for i := range modelSaid {
			if machineSaid[i] != modelSaid[i] {
				t.Fatalf("machine %v, model %v", machineSaid, modelSaid)
			}
		}
	})
}

func TestPatterns(t *testing.T) {
	tests := []struct {
		pattern, name, star string
		ok                  bool
	}{
		{"a/b", "a/b", "", true},
		{"a/b", "a/c", "", false},
		{"*/b", "a/b", "a", true},
		{"*/b", "x/a/b", "", false},
		{"a/*", "a/b", "b", true},
		{"p/*/b", "p/q/b", "q", true},
		{"p/*/b", "p/q/r/b", "", false},
		{"p/*/b", "p//b", "", false},
		{"p-*/b", "p-1/b", "1", true},
		{"p-*/b", "p-/b", "", false},
		{"aa*aa/b", "aaa/b", "", false},
		{"a*/a", "a/a", "", false},
	}
	for _, tt := range tests {
		p, err := parsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		star, ok := p.match(tt.name)
		if ok != tt.ok || ok && star != tt.star {
			t.Errorf("%s on %s: %q, %v", tt.pattern, tt.name, star, ok)
		}
		if ok && p.name(star) != tt.name {
			t.Errorf("%s filled with %q is %s", tt.pattern, star, p.name(star))
		}
	}
}

func TestParseAlarmID(t *testing.T) {
	tests := []struct {
		id   string
		want alarmID
		ok   bool
	}{
		{"hot/-/00000001-2000", alarmID{"hot", "-", 1, 2000}, true},
		{"hot/a/b/c/9c01f3aa-0", alarmID{"hot", "a/b/c", 0x9c01f3aa, 0}, true},
		{"", alarmID{}, false},
		{"hot", alarmID{}, false},
		{"hot/00000001-2000", alarmID{}, false},
		{"hot//00000001-2000", alarmID{}, false},
		{"/-/00000001-2000", alarmID{}, false},
		{"hot/-/1-2000", alarmID{}, false},
		{"hot/-/0000000g-2000", alarmID{}, false},
		{"hot/-/00000001--1", alarmID{}, false},
		{"hot/-/00000001", alarmID{}, false},
	}
	for _, tt := range tests {
		if got, ok := parseAlarmID(tt.id); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: %+v, %v", tt.id, got, ok)
		}
	}
}

// TestCacheIsBounded: what is remembered of series is emptied and fills again.
func TestCacheIsBounded(t *testing.T) {
	e, err := Compile([]File{{Version: 1, Rules: []Rule{{
		ID: "r", Inputs: map[string]string{"a": "s/a"}, When: "a > 5", Do: []Action{{Alert: &Alert{}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	reading := func(sensor string, v float64) []edgeagent.Reading {
		return []edgeagent.Reading{{Series: edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: sensor, Metric: "a"}), Value: v}}
	}
	e.Eval(nil, reading("s", 1))
	for i := range maxCached + 10 {
		e.Eval(nil, reading(strconv.Itoa(i), 9))
		if len(e.cache) > maxCached {
			t.Fatalf("%d series remembered", len(e.cache))
		}
	}
	if got := e.Eval(nil, reading("s", 9)); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// FuzzTemplate: a text that is accepted says the same when it is put together
// again, and an error points into it.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "{{.a}}", "x {{ .a }} y {{.a}}", "{{.b}}", "{{", "}}", "{{{{.a}}}}", "{{.a}", "{{.}}", "\xff{{.a}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parts, err := parseTemplate(s, func(field string) bool { return field == "a" })
		if err != nil {
			if e, ok := err.(*templateError); ok && (e.Offset() < 0 || e.Offset() >= len(s)) { //nolint:errorlint // its own type
				t.Fatalf("%q: offset %d", s, e.Offset())
			}
			return
		}
		got := parts.fill(func(string) string { return "{{.a}}" })
		want := strings.NewReplacer(" ", "", "\t", "", "\n", "", "\v", "", "\f", "", "\r", "").Replace
		if len(got) < edgeagent.MaxEventText-3 && strings.IndexFunc(s, func(r rune) bool { return r > 126 }) < 0 && want(got) != want(s) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

// FuzzParseAlarmID: what is accepted is put together to the same id.
func FuzzParseAlarmID(f *testing.F) {
	f.Add("hot/-/00000001-2000")
	f.Add("hot/a/b/9c01f3aa-0")
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := parseAlarmID(s)
		if !ok {
			return
		}
		again, ok := parseAlarmID(id.rule + "/" + id.instance + "/" + id.run.String() + "-" + strconv.FormatInt(id.onset, 10))
		if !ok || again != id {
			t.Fatalf("%q is %+v, and that %+v", s, id, again)
		}
	})
}

package api

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgeagent/edgeagent"
)

func diffLines(want, got string) string { return cmp.Diff(want, got) }

func TestStatusJSON(t *testing.T) {
	tests := map[string]Status{"good": goodStatus(), "degraded": degradedStatus(), "empty": {}}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			golden(t, "status-"+name+".json", encode(t, s))
		})
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestStatusRoundTrip: what a client decodes is what the agent said, to the
// millisecond.
func TestStatusRoundTrip(t *testing.T) {
	for name, s := range map[string]Status{"good": goodStatus(), "degraded": degradedStatus(), "empty": {}} {
		t.Run(name, func(t *testing.T) {
			first := encode(t, s)
			var back Status
			if err := json.Unmarshal(first, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s, back, cmpopts.EquateEmpty(),
				cmp.Comparer(func(a, b Number) bool { return a == b || math.IsNaN(float64(a)) && math.IsNaN(float64(b)) }),
				cmp.Comparer(func(a, b Time) bool { return a.Equal(b.Time) })); diff != "" {
				t.Error(diff)
			}
			if diff := diffLines(string(first), string(encode(t, back))); diff != "" {
				t.Errorf("second encoding differs:\n%s", diff)
			}
		})
	}
}

func TestOddValuesStillEncode(t *testing.T) {
	s := goodStatus()
	s.Buffer.Pressure = math.Inf(1)
	s.Buffer.FillIn = Seconds(math.NaN())
	s.Uplinks[0].RetryIn = Seconds(math.Inf(1))
	s.Sensors[0].LastSample = At(time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC))
	s.Sensors[1].LastError = "not \xff utf-8"
	var back Status
	if err := json.Unmarshal(encode(t, s), &back); err != nil {
		t.Error(err)
	}
}

func TestAbsentListsAreEmpty(t *testing.T) {
	text := string(encode(t, Status{Uplinks: make([]Uplink, 1), Sensors: make([]Sensor, 1)}))
	for _, key := range []string{"warnings", "values", "instances", "streams", "backlog_by_stream"} {
		if strings.Contains(text, `"`+key+`": null`) {
			t.Errorf("%s is null", key)
		}
	}
}

func TestJudge(t *testing.T) {
	bad := func(l edgeagent.Level) PartHealth { return PartHealth{Level: l, Code: "x"} }
	s := Status{
		Buffer:  Buffer{Health: bad(edgeagent.Degraded)},
		Uplinks: []Uplink{{Name: "a", Health: bad(edgeagent.OK)}, {Name: "b", Health: bad(edgeagent.Degraded)}},
		Sensors: []Sensor{{Name: "t", Health: bad(edgeagent.Failed)}},
	}
	s.Judge(Warning{bad(edgeagent.Degraded), "clock"}, Warning{bad(edgeagent.OK), "none"})
	var parts []string
	for _, w := range s.Health.Warnings {
		parts = append(parts, w.Part)
	}
	if diff := cmp.Diff([]string{"sensor/t", "clock", "buffer", "uplink/b"}, parts); diff != "" {
		t.Error(diff)
	}
	if s.Health.Level != edgeagent.Failed {
		t.Errorf("level %v, want failed", s.Health.Level)
	}
	s.Sensors[0].Health, s.Buffer.Health, s.Uplinks[1].Health = PartHealth{}, PartHealth{}, PartHealth{}
	s.Judge()
	if s.Health.Level != edgeagent.OK || len(s.Health.Warnings) != 0 {
		t.Errorf("healthy parts give %+v", s.Health)
	}
}

func TestSeconds(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "0"},
		{1500 * time.Microsecond, "0.002"},
		{130 * time.Second, "130"},
		{-time.Second, "-1"},
		{18 * 24 * time.Hour, "1555200"},
	}
	for _, tt := range tests {
		got, err := json.Marshal(SecondsOf(tt.d))
		if err != nil || string(got) != tt.want {
			t.Errorf("%v: %s, %v, want %s", tt.d, got, err, tt.want)
		}
		if back := SecondsOf(tt.d).Duration(); back != tt.d.Round(time.Millisecond) {
			t.Errorf("%v came back as %v", tt.d, back)
		}
	}
	for _, s := range []Seconds{Seconds(math.NaN()), Seconds(math.Inf(1)), 1e300} {
		if s.Duration() != math.MaxInt64 {
			t.Errorf("%v is %v", float64(s), s.Duration())
		}
	}
}

package api

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
)

func TestRenderStatus(t *testing.T) {
	tests := []struct {
		name  string
		s     Status
		width int
	}{
		{"good", goodStatus(), 120},
		{"degraded", degradedStatus(), 120},
		{"degraded-narrow", degradedStatus(), 72},
		{"empty", Status{Version: "0.1.0", Device: "gw-17", Time: At(noon), Buffer: Buffer{MaxBytes: 64 << 20}}, 120},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := RenderStatus(&b, tt.s, tt.width); err != nil {
				t.Fatal(err)
			}
			golden(t, "screen-"+tt.name+".txt", b.Bytes())
		})
	}
}

// TestScreenIsSafe: names and errors come from elsewhere; none may move the
// cursor or break a line, and tables keep within the width.
func TestScreenIsSafe(t *testing.T) {
	s := degradedStatus()
	evil := "a\x1b[2Jb\r\nc\x07" + strings.Repeat("ä", 200)
	s.Sensors[0].Name, s.Uplinks[0].LastError, s.Rules.Instances[0].Text = evil, evil, evil
	s.Sensors[1].Values[0].Label = evil
	for i := range s.Health.Warnings {
		s.Health.Warnings[i].Text, s.Health.Warnings[i].Hint = evil, evil
	}
	var b bytes.Buffer
	if err := RenderStatus(&b, s, 80); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\r\x07") || !utf8.Valid(b.Bytes()) {
		t.Errorf("control characters reach the screen:\n%q", b.String())
	}
	_, tables, _ := strings.Cut(b.String(), "\nSENSOR ")
	tables, _, _ = strings.Cut(tables, "\nedgeagent ")
	if strings.Count(tables, "\n") < 8 {
		t.Errorf("where are the tables?\n%s", b.String())
	}
	for line := range strings.Lines(tables) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestManyFiringRulesAreCounted(t *testing.T) {
	s := goodStatus()
	s.Rules.Instances = nil
	for range 100 {
		s.Rules.Instances = append(s.Rules.Instances, Rule{ID: "r", State: RuleFiring})
	}
	s.Rules.Firing = 100
	var b bytes.Buffer
	if err := RenderStatus(&b, s, 100); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"100 firing: r, r, r, and 97 more\n", "and 80 more\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("disk full")

func TestRenderReportsWriteErrors(t *testing.T) {
	if err := RenderStatus(failingWriter{}, Status{}, 80); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
}

func TestNumbersOnTheScreen(t *testing.T) {
	tests := []struct {
		v    Value
		want string
	}{
		{Value{Value: 25.0824, Unit: "Cel"}, "25.0824 Cel"},
		{Value{Value: 100653.2656, Unit: "Pa"}, "100653 Pa"},
		{Value{Value: 40, Unit: "%"}, "40 %"},
		{Value{Value: 0.1 + 0.2}, "0.3"},
		{Value{Value: 0.00123456789}, "0.00123457"},
		{Value{Value: 1e-9}, "1e-09"},
		{Value{Value: -12.5}, "-12.5"},
		{Value{Value: 1234567890.4}, "1234567890"},
		{Value{Value: 1e300}, "1e+300"},
		{Value{Value: Number(math.Inf(-1))}, "no number"},
		{Value{Value: 1 << 30, Unit: "By"}, "1 GiB"},
		{Value{Value: -1, Unit: "By"}, "-1 By"},
		{Value{Value: 5.18, Unit: "1"}, "5.18"},
		{Value{Value: 1, Label: "open"}, "open"},
	}
	for _, tt := range tests {
		if got := tt.v.number(); got != tt.want {
			t.Errorf("%v %s: %q, want %q", float64(tt.v.Value), tt.v.Unit, got, tt.want)
		}
	}
}

func TestSpan(t *testing.T) {
	tests := map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 400 * time.Millisecond: "0s", 7 * time.Second: "7s", 10 * time.Minute: "10m",
		130 * time.Second: "2m10s", time.Hour: "1h", 3*time.Hour + 20*time.Minute + 29*time.Second: "3h20m",
		time.Hour - time.Millisecond: "1h", 18 * 24 * time.Hour: "18 days", math.MaxInt64: "106,752 days",
	}
	for d, want := range tests {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestValueOfState(t *testing.T) {
	v := goodStatus().Sensors[1].Values[0]
	if v.Label != "open" || v.Quality != edgeagent.Stale.String() || v.Series != "gate/state" {
		t.Errorf("%+v", v)
	}
}

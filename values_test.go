package edgeagent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

func TestParseBytes(t *testing.T) {
	tests := []struct {
		in   string
		want edgeagent.Bytes
		bad  bool
	}{
		{"64MiB", 64 << 20, false},
		{"2 GB", 2e9, false},
		{"1.5KiB", 1536, false},
		{"100", 100, false},
		{"100 B", 100, false},
		{"", 0, true},
		{"-1", 0, true},
		{"MiB", 0, true},
		{"9999999TiB", 0, true},
		{"NaN", 0, true},
		{"inf", 0, true},
	}
	for _, tt := range tests {
		got, err := edgeagent.ParseBytes(tt.in)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d, bad %v", tt.in, got, err, tt.want, tt.bad)
		}
	}
}

func TestBytesString(t *testing.T) {
	for b, want := range map[edgeagent.Bytes]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 31 << 10: "31 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB", 1<<20 - 1: "1 MiB",
	} {
		if got := b.String(); got != want {
			t.Errorf("%d prints as %q, want %q", int64(b), got, want)
		}
	}
}

func TestPairsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOf(rapid.StringMatching(`[^\x00]{0,5}`), rapid.StringMatching(`[^\x00]{0,5}`)).Draw(t, "m")
		p := edgeagent.MakePairs(m)
		if p != edgeagent.MakePairs(p.Map()) {
			t.Fatalf("pairs of %v are not equal to themselves", m)
		}
		if p.Len() != len(m) {
			t.Fatalf("%d pairs of %d", p.Len(), len(m))
		}
		for k, v := range m {
			if got, ok := p.Get(k); !ok || got != v {
				t.Fatalf("Get(%q) = %q, %v", k, got, ok)
			}
		}
	})
}

func TestSeriesName(t *testing.T) {
	for _, name := range []string{"boiler/temp", "plant1/line0/bme280-00/temperature", "temp"} {
		sensor, metric := edgeagent.SplitName(name)
		got := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: sensor, Metric: metric}).String()
		if got != name || strings.Contains(metric, "/") {
			t.Errorf("%q became %q (metric %q)", name, got, metric)
		}
	}
	if (edgeagent.Series{}).String() != "" || !(edgeagent.Series{}).IsZero() {
		t.Error("the zero series is not zero")
	}
}

func TestSecretNeverPrints(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var s edgeagent.Secret
	if err := s.UnmarshalText([]byte("file:pass")); err != nil {
		t.Fatal(err)
	}
	if err := s.Resolve(dir); err != nil {
		t.Fatal(err)
	}
	if s.Reveal() != "hunter2" {
		t.Errorf("revealed %q", s.Reveal())
	}
	text, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	wrapped := struct{ Password edgeagent.Secret }{s}
	all := fmt.Sprintf("%v %+v %#v %s %q %x %d %v %+v %#v %s", s, s, s, s, s, s, s, wrapped, &wrapped, wrapped, text)
	if strings.Contains(all, "hunter") || strings.Contains(all, fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("the secret leaks: %s", all)
	}
	if err := s.UnmarshalText([]byte("hunter2")); err == nil {
		t.Error("a secret in plain text was accepted")
	}
	var missing edgeagent.Secret
	if err := missing.UnmarshalText([]byte("env:EDGEAGENT_NO_SUCH")); err != nil {
		t.Fatal(err)
	}
	if err := missing.Resolve(dir); err == nil {
		t.Error("an unset variable resolved")
	}
}

func TestInFieldComposesPaths(t *testing.T) {
	inner := errors.Join(
		edgeagent.Field("url", "is missing"),
		edgeagent.InField("tls", edgeagent.Field("ca", "no such file")),
	)
	err := edgeagent.InField("destinations[0]", edgeagent.InField("links[1]", inner))
	want := "destinations[0].links[1].url: is missing\ndestinations[0].links[1].tls.ca: no such file"
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Error(d)
	}
	if edgeagent.InField("x", nil) != nil {
		t.Error("nil became an error")
	}
	plain := edgeagent.InField("version", errors.New("must be 1"))
	if plain.Error() != "version: must be 1" {
		t.Error(plain)
	}
	var field *edgeagent.FieldError
	if !errors.As(edgeagent.InField("a", edgeagent.Field("[2].b", "x")), &field) || field.Path != "a[2].b" {
		t.Errorf("path %q", field.Path)
	}
}

func TestHintSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("open bus: %w", edgeagent.WithHint(os.ErrNotExist, "enable I2C"))
	var h edgeagent.Hinter
	if !errors.As(err, &h) || h.Hint() != "enable I2C" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("hint lost in %v", err)
	}
	if edgeagent.WithHint(nil, "x") != nil {
		t.Error("nil became an error")
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writeSeries writes a series with one spike, if any, and returns its file.
func writeSeries(t *testing.T, dir, name string, spike int) {
	t.Helper()
	var b strings.Builder
	b.WriteString("timestamp,value\n")
	for i := range 1000 {
		x := math.Sin(float64(i) * 0.7)
		if i == spike {
			x = 10
		}
		fmt.Fprintf(&b, "%s,%.3f\n", time.Unix(int64(i)*300, 0).UTC().Format(time.DateTime), x)
	}
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRulesScore(t *testing.T) {
	data, out := filepath.Join(t.TempDir(), "a[b"), t.TempDir()
	writeSeries(t, data, "quiet/calm.csv", -1)
	writeSeries(t, data, "loud/spike.csv", 900)
	stdout := mustEdge(t, "rules", "score", "--nab", data, "--out", out)
	want := `FILE             ROWS  ALERTS
loud/spike.csv  1,000       1
quiet/calm.csv  1,000       0
2 files         2,000       1

Alerts are rows with an anomaly_score of 0.5 or more.
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Error(diff)
	}
	scored, err := os.ReadFile(filepath.Join(out, "loud", "spike.csv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(scored)), "\n")
	if len(lines) != 1001 || lines[0] != "timestamp,value,anomaly_score,score" {
		t.Fatalf("%d lines, %q", len(lines), lines[0])
	}
	for i, line := range lines[1:] {
		f := strings.Split(line, ",")
		if alert := len(f[2]) > 1 && f[2] >= "0.5"; alert != (i == 900) {
			t.Errorf("row %d: %s", i, line)
		}
	}

	var report scoreReport
	if err := json.Unmarshal([]byte(mustEdge(t, "rules", "score", "--nab", data, "--out", out, "--json")), &report); err != nil {
		t.Fatal(err)
	}
	wantReport := scoreReport{Threshold: 0.5, Rows: 2000, Alerts: 1, Files: []scoredFile{
		{"loud/spike.csv", 1000, 1}, {"quiet/calm.csv", 1000, 0},
	}}
	if diff := cmp.Diff(wantReport, report); diff != "" {
		t.Error(diff)
	}
	again, err := os.ReadFile(filepath.Join(out, "loud", "spike.csv"))
	if err != nil || string(again) != string(scored) {
		t.Errorf("the second run wrote something else: %v", err)
	}
}

func TestRulesScoreRefuses(t *testing.T) {
	data := t.TempDir()
	writeSeries(t, data, "a/b.csv", -1)
	bad := t.TempDir()
	if err := os.MkdirAll(filepath.Join(bad, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, "a", "b.csv"), []byte("time,value\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no flags", nil, exitUsage, "--nab and --out are both needed"},
		{"an argument", []string{"x"}, exitUsage, "unknown command"},
		{"nothing there", []string{"--nab", t.TempDir(), "--out", t.TempDir()}, exitFailed, "hint: --nab is the directory"},
		{"over itself", []string{"--nab", data, "--out", data}, exitFailed, "hint: name another directory with --out"},
		{"no such column", []string{"--nab", bad, "--out", t.TempDir()}, exitFailed, "b.csv: the header has no timestamp or no value"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, _, stderr := edge(t, append([]string{"rules", "score"}, tc.args...)...)
			if code != tc.code || !strings.Contains(stderr, tc.want) {
				t.Errorf("exit %d, %s", code, stderr)
			}
		})
	}
	if b, err := os.ReadFile(filepath.Join(data, "a", "b.csv")); err != nil || len(b) < 1000 {
		t.Errorf("the data is gone: %v", err)
	}
}

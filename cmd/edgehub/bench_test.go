package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestBench: what is measured is there, and nothing is left behind.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	for _, sink := range []string{"none", "sqlite:" + dir} {
		var r benchResult
		if err := json.Unmarshal([]byte(cli(t, "bench", "--sink", sink, "--batches", "20", "--batch", "200", "--json")), &r); err != nil {
			t.Fatal(err)
		}
		raw := r.Raw != nil && *r.Raw > 0
		if r.Ingest <= 0 || r.Readings != 4000 || r.LagP99 < r.LagP50 || raw != (sink != "none") {
			t.Errorf("%s: %+v", sink, r)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if got := cli(t, "bench", "--sink", "sqlite:"+dir, "--batches", "2", "--batch", "10"); !strings.Contains(got, "20 readings in batches of 10") {
		t.Errorf("printed\n%s", got)
	}
	var out, errs bytes.Buffer
	for _, args := range [][]string{{"--sink", "kafka:x"}, {"--batch", "5000"}} {
		if code := run(t.Context(), append([]string{"bench"}, args...), &out, &errs); code != 2 {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

package model

import (
	"context"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/model/process"
)

func TestLoadSaysAllMistakes(t *testing.T) {
	proc := &process.Config{Socket: "/run/m.sock", Features: 2}
	_, err := Load(map[string]Config{
		"good":    {File: "testdata/xgboost/binary.json"},
		"nothing": {},
		"both":    {File: "x", Process: proc},
		"output":  {Process: proc, Output: "1"},
		"large":   {File: "x", MaxBytes: 1 << 30},
		"socket":  {Process: &process.Config{Socket: "m.sock", Features: 2}},
		"gone":    {File: "testdata/none.json"},
		"choose":  {File: "testdata/xgboost/softprob.json"},
		"small":   {File: "testdata/xgboost/softprob.json", Output: "1", MaxBytes: 100},
	}, slog.New(slog.DiscardHandler))
	want := `both.process: a model has a file or a process, not both
choose.file: model testdata/xgboost/softprob.json: the model has 3 outputs, and a score is one number
gone.file: open model: open testdata/none.json: no such file or directory
large.max_bytes: want at most 64 MiB, got 1 GiB
nothing.file: a model needs a file or a process
output.output: a process answers with one number, there is nothing to choose
small.file: model testdata/xgboost/softprob.json: tree 0: the model takes more than 100 B of memory
socket.process.socket: want an absolute path of at most 100 bytes, got "m.sock"`
	if err == nil {
		t.Fatal("accepted")
	}
	got := strings.ReplaceAll(err.Error(), "The system cannot find the file specified.", "no such file or directory")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadBoundsTheNumber(t *testing.T) {
	many := map[string]Config{}
	for i := range maxModels + 1 {
		many[strings.Repeat("x", i+1)] = Config{File: "testdata/xgboost/binary.json"}
	}
	if _, err := Load(many, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("accepted")
	}
}

func TestSet(t *testing.T) {
	synctest.Test(t, testSet) // in which each process is tried before any time passes
}

func testSet(t *testing.T) {
	gone := func(name string) Config {
		return Config{Process: &process.Config{Socket: filepath.Join(t.TempDir()[:1], "nowhere", name), Features: 2}}
	}
	s, err := Load(map[string]Config{"pump": {File: "testdata/xgboost/binary.json"}, "b": gone("b"), "a": gone("a")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	all := s.Models()
	for name, m := range all {
		if known := !math.IsNaN(m.Scorer()(make([]float64, m.Features()))); known != (name == "pump") {
			t.Errorf("%s: known %v", name, known)
		}
	}
	if len(all) != 3 {
		t.Errorf("%d models", len(all))
	}
	if h := s.Health(); h.Level != edgeagent.Degraded || !strings.HasSuffix(h.Text, "not well: a, b") {
		t.Errorf("health %+v", h)
	}
	if s.Bytes() != 3648 || len(s.Stats()) != 2 || s.Stats()["a"].Attempts != 1 {
		t.Errorf("%d bytes, %+v", s.Bytes(), s.Stats())
	}
}

func TestProcessesTakeAsManyFeatures(t *testing.T) {
	for features, fine := range map[int]bool{MaxFeatures: true, MaxFeatures + 1: false} {
		c := process.Config{Socket: "/run/m.sock", Features: features}
		if err := c.Validate(); (err == nil) != fine {
			t.Errorf("%d features: %v", features, err)
		}
	}
}

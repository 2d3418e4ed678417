package model_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/edgeagent/edgeagent/rules/model"
)

// vectors are rows of features and the scores that the trainer gave them, as
// testdata/make.py wrote them.
type vectors struct {
	Rows   [][]*float64 `json:"rows"` // null is missing
	Scores [][]float64  `json:"scores"`
}

func readVectors(t testing.TB, path string) (rows, scores [][]float64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	for _, r := range v.Rows {
		row := make([]float64, len(r))
		for i, x := range r {
			row[i] = math.NaN()
			if x != nil {
				row[i] = *x
			}
		}
		rows = append(rows, row)
	}
	return rows, v.Scores
}

// models returns all model files under testdata.
func models(t testing.TB) []string { return modelsIn(t, "testdata") }

func modelsIn(t testing.TB, dir string) []string {
	t.Helper()
	var paths []string
	for _, pattern := range []string{"xgboost/*.json", "lightgbm/*.txt", "safetensors/*.safetensors"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			if !strings.HasSuffix(p, ".rows.json") {
				paths = append(paths, p)
			}
		}
	}
	return paths
}

func rowsOf(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".rows.json"
}

// outputOf returns the Options.Output that gives the k-th score of a vector.
func outputOf(path string, scores, k int) string {
	switch {
	case strings.Contains(path, "autoencoder"):
		return "error"
	case scores > 1:
		return strconv.Itoa(k)
	}
	return ""
}

// worst returns the largest difference from the trainer's scores, relative to 1 or
// the score if that is larger.
func worst(t *testing.T, path string, rows, scores [][]float64) float64 {
	t.Helper()
	most := 0.0
	for k := range scores[0] {
		m, err := model.Open(path, model.Options{Output: outputOf(path, len(scores[0]), k)})
		if err != nil {
			t.Fatal(err)
		}
		score := m.Scorer()
		for i, row := range rows {
			got, want := score(row), scores[i][k]
			d := math.Abs(got-want) / max(1, math.Abs(want))
			if math.IsNaN(got) {
				d = math.Inf(1)
			}
			most = max(most, d)
		}
	}
	return most
}

func TestScoresOfTheTrainers(t *testing.T) {
	// XGBoost computes in float32, nets do so here: 24 bits of mantissa, a few of
	// which sums and exponentials use up.
	tolerance := map[string]float64{"xgboost": 3e-7, "lightgbm": 1e-12, "safetensors": 3e-6}
	paths := models(t)
	// More of them: see testdata/make.py --random.
	if dir := os.Getenv("MODEL_VECTORS"); dir != "" {
		paths = modelsIn(t, dir)
	}
	if len(paths) < 25 {
		t.Fatalf("only %d models", len(paths))
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			rows, scores := readVectors(t, rowsOf(path))
			if len(rows) < 10 || len(rows) != len(scores) {
				t.Fatalf("%d rows, %d scores", len(rows), len(scores))
			}
			got, want := worst(t, path, rows, scores), tolerance[filepath.Base(filepath.Dir(path))]
			if got > want {
				t.Errorf("differs by %.3g, want at most %.3g", got, want)
			}
		})
	}
}

// A comparison that could not fail would pass with the features in another order.
func TestVectorsNoticeMistakes(t *testing.T) {
	for _, path := range models(t) {
		rows, scores := readVectors(t, rowsOf(path))
		for _, row := range rows {
			row[0], row[1] = row[1], row[0]
		}
		if worst(t, path, rows, scores) < 1e-3 {
			t.Errorf("%s: exchanging two features is not noticed", path)
		}
	}
}

func TestClassIsTheLargestOutput(t *testing.T) {
	for _, path := range []string{"testdata/xgboost/softprob.json", "testdata/lightgbm/hist-classes.txt", "testdata/safetensors/classes.safetensors"} {
		rows, scores := readVectors(t, rowsOf(path))
		m, err := model.Open(path, model.Options{Output: "class"})
		if err != nil {
			t.Fatal(err)
		}
		score, seen := m.Scorer(), map[float64]bool{}
		for i, row := range rows {
			want := 0
			for k, v := range scores[i] {
				if v > scores[i][want] {
					want = k
				}
			}
			if got := score(row); got != float64(want) {
				t.Errorf("%s row %d: class %v, want %d", path, i, got, want)
			}
			seen[float64(want)] = true
		}
		if len(seen) < 2 {
			t.Errorf("%s: only classes %v occur", path, seen)
		}
	}
}

func TestScorersAllocateNothing(t *testing.T) {
	for _, path := range models(t) {
		rows, scores := readVectors(t, rowsOf(path))
		m, err := model.Open(path, model.Options{Output: outputOf(path, len(scores[0]), 0)})
		if err != nil {
			t.Fatal(err)
		}
		score := m.Scorer()
		if n := testing.AllocsPerRun(100, func() {
			for _, row := range rows {
				score(row)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func TestScoreOfTheWrongLengthIsUnknown(t *testing.T) {
	m, err := model.Open("testdata/xgboost/binary.json", model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range [][]float64{nil, {1}, {1, 2, 3, 4, 5}} {
		if v := m.Scorer()(x); !math.IsNaN(v) {
			t.Errorf("%v gives %v", x, v)
		}
	}
}

func TestNetMissesAFeature(t *testing.T) {
	m, err := model.Open("testdata/safetensors/binary.safetensors", model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	score := m.Scorer()
	if v := score([]float64{50, math.NaN(), 0.5, 1000}); !math.IsNaN(v) {
		t.Errorf("with a missing feature: %v", v)
	}
	if v := score([]float64{50, 1, 0.5, 1000}); math.IsNaN(v) {
		t.Error("the score after it is unknown, too")
	}
}

// Scorers of a model work side by side; the race detector looks.
func TestScorersSideBySide(t *testing.T) {
	for _, path := range []string{"testdata/xgboost/softprob.json", "testdata/safetensors/classes.safetensors"} {
		rows, scores := readVectors(t, rowsOf(path))
		m, err := model.Open(path, model.Options{Output: "1"})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			score := m.Scorer()
			wg.Go(func() {
				for i, row := range rows {
					if got := score(row); !(math.Abs(got-scores[i][1]) < 1e-5) {
						t.Errorf("row %d: %v, want %v", i, got, scores[i][1])
					}
				}
			})
		}
		wg.Wait()
	}
}

//go:build system

package process

import (
	"context"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// python returns a Python that has numpy.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, "-c", "import numpy").Run() == nil {
			return path
		}
	}
	t.Fatal("no python3 with numpy: apt-get install python3-numpy")
	return ""
}

// TestTFLiteExample runs the script of docs/how-to/models.md, with a stand-in for the
// interpreter of TensorFlow Lite.
func TestTFLiteExample(t *testing.T) {
	py := python(t)
	for name, c := range map[string]struct {
		model    string
		features int
		args     []string
		x        []float64
		want     float64
		error    string // of the process, as health shows it
	}{
		"float":       {`{"in":3,"out":1,"dtype":"float32","quantization":[0,0]}`, 3, nil, []float64{5, 1, 2}, 2.5, ""},
		"output":      {`{"in":3,"out":2,"dtype":"float32","quantization":[0,0]}`, 3, []string{"--output", "1"}, []float64{5, 1, 2}, 0.5, ""},
		"autoencoder": {`{"in":2,"out":2,"dtype":"float32","quantization":[0,0]}`, 2, []string{"--error"}, []float64{2, 4}, 2.5, ""},
		"int8":        {`{"in":2,"out":1,"dtype":"int8","quantization":[0.5,-3]}`, 2, nil, []float64{8, 1e9}, 4, ""},
		"missing":     {`{"in":2,"out":1,"dtype":"int8","quantization":[0.5,-3]}`, 2, nil, []float64{8, math.NaN()}, math.NaN(), "a feature is missing"},
		"no output":   {`{"in":3,"out":2,"dtype":"float32","quantization":[0,0]}`, 3, nil, []float64{1, 2, 3}, math.NaN(), "choose one with --output"},
		"features":    {`{"in":3,"out":1,"dtype":"float32","quantization":[0,0]}`, 2, nil, []float64{1, 2}, math.NaN(), "wants 3 features"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "tflite")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			script, err := os.ReadFile("../../../docs/how-to/model-process/tflite_model.py")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
				t.Fatal(err)
			}
			for file, data := range map[string]string{"tflite_model.py": string(script), "m.tflite": c.model} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg := Config{
				Socket: filepath.Join(dir, "s"), Features: c.features, Timeout: 20 * time.Second,
				Command: append([]string{py, filepath.Join(dir, "tflite_model.py"), filepath.Join(dir, "m.tflite")}, c.args...),
			}
			p, err := New(name, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			ask := p.Scorer()
			if c.error == "" {
				until(t, "a score", func() bool { return !math.IsNaN(ask(c.x)) })
				if got := ask(c.x); math.Abs(got-c.want) > 1e-6 {
					t.Errorf("score %v, want %v", got, c.want)
				}
				return
			}
			until(t, c.error, func() bool {
				if v := ask(c.x); !math.IsNaN(v) {
					t.Fatalf("score %v", v)
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				return strings.Contains(p.queue.said, c.error) || p.why != nil && strings.Contains(p.why.Error(), c.error)
			})
		})
	}
}

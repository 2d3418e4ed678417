package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/edgeagent/edgeagent"
)

// Bounds of a model.
const (
	MaxFeatures = 1024
	MaxOutputs  = 256
	maxFile     = 16 << 20 // bytes
	defaultMax  = 4 << 20  // bytes in memory
)

// Options say how a model is used.
type Options struct {
	// Output says which number is the score of a model with several outputs: its
	// place among them from 0, "class" for the number of the largest one, or
	// "error" for the mean squared difference between outputs and (standardised)
	// features, which is what an autoencoder is for. Empty: the only output.
	Output string
	// MaxBytes bounds what the model takes in memory. Default 4 MiB.
	MaxBytes int
}

// Model is a trained model. It is immutable and safe for concurrent use.
type Model struct {
	format   string
	width    int
	features []string
	outputs  int
	pick     pick
	eval     evaluator
}

// evalFunc sets out to the outputs for x. What it returns is x as the model sees it,
// for pickError; only nets know.
type evalFunc func(x, out []float64) (input []float64)

// evaluator computes all outputs of a model.
type evaluator interface {
	// evaluate returns a function with its own scratch memory.
	evaluate() evalFunc
	bytes() int
	steps() int
}

// parsed is a model as its reader leaves it.
type parsed struct {
	format   string
	width    int
	features []string // nil, or width names
	outputs  int
	class    bool // the trainer's own answer is the number of the largest output
	eval     evaluator
}

// pick says which number is the score.
type pick struct {
	kind  pickKind
	index int
}

type pickKind uint8

const (
	pickOne pickKind = iota
	pickClass
	pickError
)

// Open reads the model in the file at path. The format is told by the content.
func Open(path string, o Options) (*Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	defer f.Close()
	// A pipe or a device might never end, or never begin.
	if st, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("model %s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", path, err)
	}
	m, err := Read(data, o)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", path, err)
	}
	return m, nil
}

// Read reads the model in data, which it does not keep.
func Read(data []byte, o Options) (*Model, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("the file is larger than %v", edgeagent.Bytes(maxFile))
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMax
	}
	read, err := detect(data)
	if err != nil {
		return nil, err
	}
	p, err := read(data, o.MaxBytes)
	if err != nil {
		return nil, err
	}
	m := &Model{format: p.format, width: p.width, features: p.features, outputs: p.outputs, eval: p.eval}
	if m.pick, err = choose(o.Output, p); err != nil {
		return nil, err
	}
	return m, nil
}

type reader func(data []byte, maxBytes int) (parsed, error)

// detect tells the format by the first bytes.
func detect(data []byte) (reader, error) {
	text := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(data) > 8 && data[8] == '{' && data[7] == 0:
		return readNet, nil
	case bytes.HasPrefix(text, []byte("tree\n")) || bytes.HasPrefix(text, []byte("tree\r\n")):
		return readLightGBM, nil
	case len(text) > 1 && text[0] == '{' && bytes.IndexByte([]byte("LlIiUu#$"), text[1]) >= 0:
		return nil, edgeagent.WithHint(errors.New("this is XGBoost's binary UBJSON, not JSON"),
			"save the model under a name that ends in .json: booster.save_model('model.json')")
	case len(text) > 0 && text[0] == '{':
		return readXGBoost, nil
	}
	return nil, edgeagent.WithHint(errors.New("neither XGBoost JSON, nor LightGBM text, nor safetensors"),
		"write it with booster.save_model('model.json') of XGBoost, save_model('model.txt') of LightGBM, or save_file of safetensors")
}

// choose reads Options.Output.
func choose(output string, p parsed) (pick, error) {
	switch output {
	case "":
		switch {
		case p.class:
			return pick{kind: pickClass}, nil
		case p.outputs == 1:
			return pick{}, nil
		}
		return pick{}, edgeagent.WithHint(fmt.Errorf("the model has %d outputs, and a score is one number", p.outputs),
			"set output to the number of one of them, from 0, or to class, or for an autoencoder to error")
	case "class":
		if p.outputs == 1 && !p.class {
			return pick{}, errors.New("output class: the model has one output, compare that")
		}
		return pick{kind: pickClass}, nil
	case "error":
		if _, ok := p.eval.(*net); !ok || p.outputs != p.width {
			return pick{}, fmt.Errorf("output error: that is for a net with as many outputs as features, this %s has %d and %d", p.format, p.outputs, p.width)
		}
		return pick{kind: pickError}, nil
	}
	i, err := strconv.Atoi(output)
	if err != nil || i < 0 || i >= p.outputs {
		return pick{}, fmt.Errorf("output %q: want 0 to %d, class or error", output, p.outputs-1)
	}
	return pick{index: i}, nil
}

// Format returns "xgboost", "lightgbm" or "net".
func (m *Model) Format() string { return m.format }

// Features returns how many features a score needs.
func (m *Model) Features() int { return m.width }

// FeatureNames returns the names of the features in the order that a scorer takes them, or nil
// when the file has none.
func (m *Model) FeatureNames() []string { return slices.Clone(m.features) }

// Outputs returns how many outputs the model has, of which Options.Output chose.
func (m *Model) Outputs() int { return m.outputs }

// Bytes returns about how much memory the model takes. A scorer takes a few KiB
// at most beside it.
func (m *Model) Bytes() int { return m.eval.bytes() }

// Steps returns what a score costs at worst: comparisons of trees, about 2 to 10 ns
// each, or multiplications of a net, below 1 ns each, on a machine of 2 GHz.
func (m *Model) Steps() int { return m.eval.steps() }

// Scorer returns a function that scores a row of features; NaN among them is a
// missing value. It returns NaN when there is no answer: len(x) is not Features, or a
// net misses a feature. It neither keeps nor changes x, allocates nothing, and is for
// one goroutine at a time.
func (m *Model) Scorer() func(x []float64) float64 {
	out, eval := make([]float64, m.outputs), m.eval.evaluate()
	return func(x []float64) float64 {
		if len(x) != m.width {
			return math.NaN()
		}
		input := eval(x, out)
		switch m.pick.kind {
		case pickClass:
			return largest(out)
		case pickError:
			return squaredError(input, out)
		default:
			return out[m.pick.index]
		}
	}
}

// largest returns the place of the largest number, the first of equal ones, as
// numpy's argmax does. A NaN among them makes it NaN.
func largest(out []float64) float64 {
	best := 0
	for i, v := range out {
		if math.IsNaN(v) {
			return v
		}
		if v > out[best] {
			best = i
		}
	}
	return float64(best)
}

func squaredError(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		d := v - b[i]
		sum += d * d
	}
	return sum / float64(len(a))
}

package model

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// maxHeader bounds the JSON at the head of a safetensors file, in bytes.
const maxHeader = 1 << 20

// tensor is an entry of the header.
type tensor struct {
	DType   string `json:"dtype"`
	Shape   []int  `json:"shape"`
	Offsets [2]int `json:"data_offsets"` // of its bytes behind the header
	data    []byte
}

// readNet reads a safetensors file (github.com/huggingface/safetensors, "Format"): 8
// bytes with the length of the header, little endian; a JSON object of tensors by
// name; their bytes, row by row, without holes.
func readNet(data []byte, maxBytes int) (parsed, error) {
	tensors, meta, err := readTensors(data)
	if err != nil {
		return parsed{}, err
	}
	n, err := buildNet(tensors, meta, maxBytes)
	if err != nil {
		return parsed{}, err
	}
	width, outputs := n.layers[0].in, n.layers[len(n.layers)-1].out
	if width > MaxFeatures || outputs > MaxOutputs {
		return parsed{}, fmt.Errorf("the net has %d features and %d outputs, at most %d and %d can be used", width, outputs, MaxFeatures, MaxOutputs)
	}
	features := strings.Fields(meta["features"])
	if len(features) != 0 && len(features) != width {
		return parsed{}, fmt.Errorf("metadata features: %d names for %d features", len(features), width)
	}
	return parsed{format: "net", width: width, features: named(features), outputs: outputs, eval: n}, nil
}

func readTensors(data []byte) (map[string]tensor, map[string]string, error) {
	size := binary.LittleEndian.Uint64(data)
	if size > maxHeader || size > uint64(len(data)-8) {
		return nil, nil, fmt.Errorf("safetensors header of %d bytes: want at most %d and no more than the file", size, maxHeader)
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(data[8:8+size], &entries); err != nil {
		return nil, nil, fmt.Errorf("parse safetensors header: %w", err)
	}
	meta := map[string]string{}
	if raw, ok := entries["__metadata__"]; ok {
		if err := json.Unmarshal(raw, &meta); err != nil {
			return nil, nil, fmt.Errorf("parse safetensors metadata: %w", err)
		}
		delete(entries, "__metadata__")
	}
	tensors := make(map[string]tensor, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		raw := entries[name]
		var t tensor
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, nil, fmt.Errorf("tensor %.60q: %w", name, err)
		}
		tensors[name] = t
	}
	return tensors, meta, place(tensors, data[8+size:])
}

// place gives each tensor its bytes and refuses overlaps and holes, as the format
// demands.
func place(tensors map[string]tensor, data []byte) error {
	names := slices.Collect(maps.Keys(tensors))
	slices.SortFunc(names, func(a, b string) int {
		x, y := tensors[a].Offsets, tensors[b].Offsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), cmp.Compare(a, b))
	})
	end := 0
	for _, name := range names {
		t := tensors[name]
		want, err := t.size()
		if err != nil {
			return fmt.Errorf("tensor %.60q: %w", name, err)
		}
		if t.Offsets[0] != end || t.Offsets[1] < end || t.Offsets[1] > len(data) || t.Offsets[1]-end != want {
			return fmt.Errorf("tensor %.60q: data_offsets %v, want %d bytes from %d on", name, t.Offsets, want, end)
		}
		t.data, end = data[end:t.Offsets[1]], t.Offsets[1]
		tensors[name] = t
	}
	if end != len(data) {
		return fmt.Errorf("%d bytes behind the last tensor", len(data)-end)
	}
	return nil
}

// size returns how many bytes the tensor has to have.
func (t tensor) size() (int, error) {
	size, ok := map[string]int{"F64": 8, "F32": 4, "F16": 2, "BF16": 2}[t.DType]
	if !ok {
		return 0, fmt.Errorf("numbers of type %.20q, want F32, F64, F16 or BF16", t.DType)
	}
	for _, d := range t.Shape {
		if d < 1 || d > maxFile/size {
			return 0, fmt.Errorf("shape %v", t.Shape)
		}
		size *= d
	}
	return size, nil
}

// floats returns the numbers of the tensor.
func (t tensor) floats() ([]float64, error) {
	out := make([]float64, 0, len(t.data)/2)
	for b := t.data; len(b) > 0; {
		var v float64
		switch t.DType {
		case "F64":
			v, b = math.Float64frombits(binary.LittleEndian.Uint64(b)), b[8:]
		case "F32":
			v, b = float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), b[4:]
		case "F16":
			v, b = half(binary.LittleEndian.Uint16(b)), b[2:]
		default: // BF16: the upper half of a float32
			v, b = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b))<<16)), b[2:]
		}
		if math.IsNaN(v) || math.Abs(v) > math.MaxFloat32 {
			return nil, fmt.Errorf("it holds %v, which is not a float32", v)
		}
		out = append(out, v)
	}
	return out, nil
}

// half returns the value of an IEEE 754 binary16.
func half(b uint16) float64 {
	sign := 1.0
	if b>>15 != 0 {
		sign = -1
	}
	exponent, fraction := int(b>>10&31), float64(b&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

// netReader takes tensors out of a file.
type netReader struct {
	tensors map[string]tensor
	net     *net
	budget  int
}

func buildNet(tensors map[string]tensor, meta map[string]string, maxBytes int) (*net, error) {
	r := &netReader{tensors: tensors, net: &net{}, budget: maxBytes}
	names := layerNames(tensors, meta)
	if len(names) == 0 {
		return nil, edgeagent.WithHint(errors.New("no layers: no tensor is called NAME.weight"),
			"save the state_dict of a torch.nn.Sequential of Linear layers with safetensors.torch.save_file")
	}
	acts := strings.Fields(meta["activations"])
	if len(acts) != len(names) {
		return nil, edgeagent.WithHint(fmt.Errorf("metadata activations: %d for the %d layers %.200s", len(acts), len(names), strings.Join(names, " ")),
			"say them when saving: save_file(tensors, path, metadata={'activations': 'relu relu sigmoid'})")
	}
	for i, name := range names {
		if err := r.layer(name, acts[i], i == len(names)-1); err != nil {
			return nil, fmt.Errorf("layer %.60q: %w", name, err)
		}
	}
	n := r.net
	var err error
	if n.mean, n.scale, err = r.standard("input", n.layers[0].in); err != nil {
		return nil, err
	}
	if n.outMean, n.outScale, err = r.standard("output", n.layers[len(n.layers)-1].out); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(r.tensors)) {
		return nil, fmt.Errorf("tensor %.60q is none of a dense layer: only NAME.weight [out, in] and NAME.bias [out] can be evaluated here", name)
	}
	return n, nil
}

// layerNames returns the layers in order: as the metadata says, or else by the
// numbers in their names.
func layerNames(tensors map[string]tensor, meta map[string]string) []string {
	if said := strings.Fields(meta["layers"]); len(said) > 0 {
		return said
	}
	var names []string
	for name := range tensors {
		if layer, ok := strings.CutSuffix(name, ".weight"); ok {
			names = append(names, layer)
		}
	}
	slices.SortFunc(names, natural)
	return names
}

// natural compares names so that numbers in them count: fc2 before fc10.
func natural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		i, j := digits(x), digits(y)
		if i > 0 && j > 0 {
			n, _ := strconv.ParseUint(x[:i], 10, 64)
			m, _ := strconv.ParseUint(y[:j], 10, 64)
			if n != m {
				return cmp.Compare(n, m)
			}
			x, y = x[i:], y[j:]
			continue
		}
		if x[0] != y[0] {
			return cmp.Compare(x[0], y[0])
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(a, b))
}

// digits returns how many digits s begins with.
func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}

func (r *netReader) layer(name, act string, last bool) error {
	a, ok := activationNames[act]
	if !ok {
		return fmt.Errorf("activation %.40q: want linear, relu, leaky_relu, elu, tanh, sigmoid, softplus or softmax", act)
	}
	if a == actSoftmax && !last {
		return errors.New("activation softmax: only the last layer can have it")
	}
	w, ok := r.tensors[name+".weight"]
	if !ok {
		return errors.New("it has no weight")
	}
	if len(w.Shape) != 2 {
		return fmt.Errorf("its weight has the shape %v, want [out, in]", w.Shape)
	}
	l := layer{in: w.Shape[1], out: w.Shape[0], activation: a}
	n := r.net
	if k := len(n.layers); k > 0 && n.layers[k-1].out != l.in {
		return fmt.Errorf("it takes %d numbers, the layer before gives %d", l.in, n.layers[k-1].out)
	}
	var err error
	if l.weight, err = r.take(name+".weight", l.in*l.out); err != nil {
		return err
	}
	if _, ok := r.tensors[name+".bias"]; ok {
		if l.bias, err = r.take(name+".bias", l.out); err != nil {
			return err
		}
	}
	n.layers = append(n.layers, l)
	n.widest = max(n.widest, l.in, l.out)
	n.multiplyAdds += l.in * l.out
	return nil
}

// take returns the n numbers of a tensor as float32 and forgets the tensor.
func (r *netReader) take(name string, n int) ([]float32, error) {
	r.net.weights += n
	if 4*r.net.weights > r.budget {
		return nil, tooLarge(r.budget)
	}
	wide, err := r.wide(name, n)
	if err != nil {
		return nil, err
	}
	out := make([]float32, n)
	for i, v := range wide {
		out[i] = float32(v)
	}
	return out, nil
}

// wide returns the n numbers of a tensor and forgets it.
func (r *netReader) wide(name string, n int) ([]float64, error) {
	t, ok := r.tensors[name]
	if !ok {
		return nil, fmt.Errorf("tensor %.60q is missing", name)
	}
	delete(r.tensors, name)
	out, err := t.floats()
	if err != nil {
		return nil, fmt.Errorf("tensor %.60q: %w", name, err)
	}
	if len(out) != n {
		return nil, fmt.Errorf("tensor %.60q has %d numbers, want %d", name, len(out), n)
	}
	return out, nil
}

// standard returns side.mean and side.scale, both or neither.
func (r *netReader) standard(side string, n int) (mean, scale []float64, err error) {
	_, m := r.tensors[side+".mean"]
	_, s := r.tensors[side+".scale"]
	if !m && !s {
		return nil, nil, nil
	}
	if mean, err = r.wide(side+".mean", n); err != nil {
		return nil, nil, err
	}
	if scale, err = r.wide(side+".scale", n); err != nil {
		return nil, nil, err
	}
	if slices.Contains(scale, 0) {
		return nil, nil, fmt.Errorf("tensor %s.scale holds a 0", side)
	}
	return mean, scale, nil
}

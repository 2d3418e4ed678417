package model

import "math"

// net is a stack of dense layers in float32. It is immutable once built.
type net struct {
	layers       []layer
	mean, scale  []float64 // of the features, or nil
	outMean      []float64 // of the outputs, or nil
	outScale     []float64
	widest       int
	weights      int
	multiplyAdds int
}

type layer struct {
	in, out    int
	weight     []float32 // [out][in]
	bias       []float32 // [out], or nil
	activation activation
}

type activation uint8

const (
	actLinear activation = iota
	actReLU
	actLeakyReLU // slope 0.01 below 0, the default of PyTorch
	actELU       // e^x - 1 below 0
	actTanh
	actSigmoid
	actSoftplus
	actSoftmax
)

var activationNames = map[string]activation{
	"linear": actLinear, "relu": actReLU, "leaky_relu": actLeakyReLU, "elu": actELU,
	"tanh": actTanh, "sigmoid": actSigmoid, "softplus": actSoftplus, "softmax": actSoftmax,
}

func (n *net) bytes() int { return 4 * n.weights }
func (n *net) steps() int { return n.multiplyAdds }

func (n *net) evaluate() evalFunc {
	input := make([]float64, n.layers[0].in)
	a, b := make([]float32, n.widest), make([]float32, n.widest)
	return func(x, out []float64) []float64 {
		for i, v := range x {
			if n.mean != nil {
				v = (v - n.mean[i]) / n.scale[i]
			}
			input[i], a[i] = v, float32(v)
			if v != v {
				fill(out, math.NaN())
				return input
			}
		}
		n.run(a, b, out)
		if n.outMean == nil {
			return input
		}
		for i := range out {
			out[i] = out[i]*n.outScale[i] + n.outMean[i]
		}
		return x
	}
}

// run puts a, the features, through the layers; b is scratch.
func (n *net) run(a, b []float32, out []float64) {
	for i := range n.layers {
		l := &n.layers[i]
		for k := range l.out {
			sum := dot(l.weight[k*l.in:(k+1)*l.in], a[:l.in])
			if l.bias != nil {
				sum += l.bias[k]
			}
			b[k] = l.activation.one(sum)
		}
		a, b = b, a
	}
	for i := range out {
		out[i] = float64(a[i])
	}
	if n.layers[len(n.layers)-1].activation == actSoftmax {
		softmax(out)
	}
}

// dot adds in four parts, which lets the processor work on them side by side.
func dot(w, x []float32) float32 {
	var s0, s1, s2, s3 float32
	x = x[:len(w)]
	for len(w) >= 4 {
		s0 += w[0] * x[0]
		s1 += w[1] * x[1]
		s2 += w[2] * x[2]
		s3 += w[3] * x[3]
		w, x = w[4:], x[4:]
	}
	for i, v := range w {
		s0 += v * x[i]
	}
	return s0 + s1 + (s2 + s3)
}

// one applies the activation to one sum; softmax, which needs all of them, comes
// after.
func (a activation) one(v float32) float32 {
	switch a {
	case actReLU:
		if v < 0 {
			return 0
		}
		return v
	case actLeakyReLU:
		if v < 0 {
			return 0.01 * v
		}
		return v
	case actELU:
		if v < 0 {
			return float32(math.Expm1(float64(v)))
		}
		return v
	case actTanh:
		return float32(math.Tanh(float64(v)))
	case actSigmoid:
		return float32(sigmoid(float64(v)))
	case actSoftplus:
		return float32(softplus(float64(v)))
	default:
		return v
	}
}

func fill(out []float64, v float64) {
	for i := range out {
		out[i] = v
	}
}

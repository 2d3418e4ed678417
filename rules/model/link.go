package model

import "math"

// link turns the sums of a tree ensemble into what its trainer answers.
type link struct {
	kind  linkKind
	slope float64 // of a sigmoid
}

type linkKind uint8

const (
	linkNone linkKind = iota
	linkSigmoid
	linkExp
	linkSoftmax
	linkStep     // 1 above 0, else 0
	linkSquare   // undoes the square root that LightGBM's "regression sqrt" learns
	linkSoftplus // ln(1 + e^x)
)

func (l link) apply(out []float64) {
	if l.kind == linkSoftmax {
		softmax(out)
		return
	}
	for i, v := range out {
		out[i] = l.one(v)
	}
}

func (l link) one(v float64) float64 {
	switch l.kind {
	case linkSigmoid:
		return sigmoid(l.slope * v)
	case linkExp:
		return math.Exp(v)
	case linkStep:
		if v > 0 {
			return 1
		}
		return 0
	case linkSquare:
		return math.Copysign(v*v, v)
	case linkSoftplus:
		return softplus(v)
	default:
		return v
	}
}

func sigmoid(v float64) float64 { return 1 / (1 + math.Exp(-v)) }

// softplus is ln(1 + e^v), without overflow.
func softplus(v float64) float64 { return max(v, 0) + math.Log1p(math.Exp(-math.Abs(v))) }

// softmax is e^v / sum e^v, shifted by the largest so that nothing overflows.
func softmax(out []float64) {
	top := math.Inf(-1)
	for _, v := range out {
		top = max(top, v)
	}
	sum := 0.0
	for i, v := range out {
		out[i] = math.Exp(v - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
}

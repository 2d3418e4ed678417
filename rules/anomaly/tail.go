package anomaly

import "math"

// The constants of the tails.
const (
	// tailQuantile: a tail begins where 2 % of the readings lie. Higher, and too
	// few readings speak of its slope within the first day (of 100 readings two
	// do); lower, and the slope is that of the body.
	tailQuantile = 0.98
	// tailRate is the memory of a tail: 500 readings of full weight, which is
	// nearly two days of five minutes each. Shorter than a day, and each night
	// would make the morning surprising.
	tailRate = 0.002
	// tailFloor keeps a tail of no width, such as that of a square wave, from
	// dividing by zero: 2 % of the evidence, since y is a logarithm.
	tailFloor = 0.02

	// Before anything is known, the evidence of single readings is taken to have
	// the heaviest tail that is met, that of a Cauchy distribution, in which y is
	// exponential of mean 1: the quantile is -ln(1-tailQuantile), the mean
	// distance from it q-1+2·exp(-q). Being sure has to be earned. Averages have
	// light tails, whatever they are made of: theirs begins at the first of them.
	heavyQuantile = 3.912
	heavySpread   = 2.952
	lightSpread   = 0.1
	// firstExcess is the slope that y has where the tail of z is exponential: 0.2
	// at the quantile, 0.3 nearer to the body.
	firstExcess = 0.3
	// mostSurprise: no evidence weighs more than a record.
	mostSurprise = recordWeight
)

// tail turns evidence into surprise: how far it lies in the tail of the evidence of
// the same kind seen so far, in units of that tail's own slope. A surprise of s
// means that a share of (1-tailQuantile)·exp(-s) of the readings has more.
//
// It works on y = ln(1+z), in which a heavy (Pareto) tail of z becomes an
// exponential one, so that four numbers do for what the method of Siffer et al.
// ("Anomaly Detection in Streams with Extreme Value Theory", KDD 2017) fits a
// generalised Pareto distribution for: a quantile by stochastic approximation
// (Robbins and Monro), and the mean excess above it.
type tail struct {
	quantile float64 // of y
	excess   float64 // mean of y above quantile
	spread   float64 // mean of |y-quantile|: the unit of the quantile's steps
	n        uint32  // readings seen; stays at its maximum
}

// begin makes t the tail of the evidence of single readings. Without it, t is that of
// averages.
func (t *tail) begin() {
	*t = tail{quantile: heavyQuantile, excess: firstExcess, spread: heavySpread}
}

// surprise returns how surprising z ≥ 0 is, at least 0, and takes z into the tail.
// weight is that of the reading, above 0 and at most 1.
func (t *tail) surprise(z, weight float64) float64 {
	y := math.Log1p(z)
	if t.n == 0 && t.spread == 0 { // of an average, see begin
		t.quantile, t.excess, t.spread = y, firstExcess, lightSpread
	}
	t.n += min(1, math.MaxUint32-t.n)
	n, rate := float64(t.n), tailRate*weight
	over := y - t.quantile
	s := clamp(over/(t.excess+tailFloor), 0, mostSurprise)
	t.spread += max(rate, 1/n) * (math.Abs(over) - t.spread)
	// The step falls with the root of n, as stochastic approximation needs, down
	// to what the memory allows.
	step := (t.spread + 1e-6) * max(3*rate, 0.5/math.Sqrt(n))
	if over > 0 {
		// Only the readings above speak of the excess, and a single one moves it
		// by no more than four times itself.
		t.excess += 0.5 * max(10*rate, 1/(1+n*(1-tailQuantile))) * (min(over, 4*t.excess+0.1) - t.excess)
		t.quantile += step * tailQuantile
	} else {
		t.quantile -= step * (1 - tailQuantile)
	}
	t.quantile = clamp(t.quantile, 0, mostLog) // as y is
	return s
}

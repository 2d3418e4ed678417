package block

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// An integer column is the first number, and then what a predictor leaves of the
// others. With y[i] = (x[i] - x[0]) / scale, so that y[0] = 0, the residual is
// r[i] = y[i] - prediction - offset, coded as it is (unsigned) or by zigzag. All
// arithmetic is modulo 2^64 and in integers: encoder and decoder agree on every
// machine, whatever the numbers.
//
//	varint first · [n > 1: form u8 · [scale uvarint] · [slope varint] · [offset varint] · groups]
//
// The predictors, with a slope per step in 1/4096 except for curve:
//
//	constant   y = 0, nothing follows
//	delta      the number before
//	curve      the number before and the step before it; slope is the first step
//	line       round(i × slope)
//	level1…3   a level that rises by slope and moves by 1/2, 1/4, 1/8 of the way
//	           to each number: the best guess for a noisy sensor
type predictor uint8

const (
	constant predictor = 0
	delta    predictor = 1
	curve    predictor = 2
	line     predictor = 3
	level1   predictor = 4
	level2   predictor = 5
	level3   predictor = 6
)

// The form byte: the predictor in the low three bits, then flags.
const (
	formPredictor = 7
	formScale     = 1 << 3
	formOffset    = 1 << 4
	formUnsigned  = 1 << 5
	formKnown     = formPredictor | formScale | formOffset | formUnsigned
)

const (
	fraction = 12
	half     = 1 << (fraction - 1)
	// smooth bounds numbers for which slopes and sums are worked out: with at
	// most MaxRecords of them, every product stays within 63 bits.
	smooth = 1 << 36
)

// fit is one way to code a column.
type fit struct {
	predictor predictor
	slope     int64
	offset    int64
	unsigned  bool
	size      int // bits, estimated
}

// integerEncoder codes integer columns; it holds scratch.
type integerEncoder struct {
	y, r []int64
	u    []uint64
}

// append codes x, which is not empty.
func (e *integerEncoder) append(dst []byte, x []int64) []byte {
	dst = binary.AppendVarint(dst, x[0])
	if len(x) == 1 {
		return dst
	}
	scale, ok := e.relate(x)
	if !ok {
		return append(dst, byte(constant))
	}
	f := e.best()
	form := byte(f.predictor)
	if scale > 1 {
		form |= formScale
	}
	if f.offset != 0 {
		form |= formOffset
	}
	if f.unsigned {
		form |= formUnsigned
	}
	dst = append(dst, form)
	if scale > 1 {
		dst = binary.AppendUvarint(dst, scale)
	}
	if f.predictor >= curve {
		dst = binary.AppendVarint(dst, f.slope)
	}
	if f.offset != 0 {
		dst = binary.AppendVarint(dst, f.offset)
	}
	return appendNumbers(dst, e.code(f))
}

// relate sets y to the distances from the first number, divided by their common
// divisor. It reports false when all are 0.
func (e *integerEncoder) relate(x []int64) (scale uint64, ok bool) {
	e.y = grow(e.y, len(x))
	first, wraps := x[0], false
	for i, v := range x {
		d := v - first
		wraps = wraps || (v^first)&(v^d) < 0 || d == math.MinInt64
		e.y[i] = d
		if scale != 1 && d != 0 {
			if a := magnitude(d); scale == 0 || a%scale != 0 {
				scale = gcd(a, scale)
			}
		}
	}
	if wraps { // distances of 2^63 and more do not divide
		return 1, true
	}
	if scale > 1 {
		for i, d := range e.y {
			e.y[i] = d / int64(scale) // below 2^63, as no distance is 2^63
		}
	}
	return scale, scale != 0
}

func magnitude(x int64) uint64 {
	if x < 0 {
		return -uint64(x)
	}
	return uint64(x)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// best tries the predictors on y: one of each family, and then the neighbours of
// the one that did best.
func (e *integerEncoder) best() fit {
	n := int64(len(e.y))
	lo, hi, sum, moment := e.summary()
	if lo < -smooth || hi > smooth {
		return e.bestOf(fit{size: math.MaxInt}, fit{predictor: delta}, fit{predictor: curve, slope: e.y[1]}, fit{predictor: line})
	}
	rise := e.y[n-1] << fraction / (n - 1)
	slope, middle := regression(n, sum, moment)
	if magnitude(slope)*uint64(n)>>fraction <= uint64(hi-lo)/8 {
		slope, middle = 0, sum/n // hardly a slope: save its bytes
	}
	climb := rise
	if magnitude(rise) < 1<<fraction/8 {
		climb = 0 // a level lags by a few steps only: save the slope's bytes
	}
	level := func(p predictor) fit { return fit{predictor: p, slope: climb} }
	best := e.bestOf(fit{size: math.MaxInt},
		fit{predictor: delta, offset: (rise + half) >> fraction},
		fit{predictor: line, slope: slope, offset: middle},
		level(level2))
	switch best.predictor {
	case delta:
		return e.bestOf(best, fit{predictor: curve, slope: e.y[1]}, level(level1))
	case line:
		return e.bestOf(best, level(level3))
	}
	return e.bestOf(best, level(level1), level(level3))
}

// summary returns the bounds of y and, when they are within smooth, the sum of
// y[i] and of i*y[i].
func (e *integerEncoder) summary() (lo, hi, sum, moment int64) {
	for i, y := range e.y {
		lo, hi = min(lo, y), max(hi, y)
		sum += y
		moment += int64(i) * y
	}
	return lo, hi, sum, moment
}

// regression returns the least-squares line through n points (i, y): its slope
// and its height at i = 0. Σi² - (Σi)²/n = n(n²-1)/12.
func regression(n, sum, moment int64) (slope, at0 int64) {
	// Twice the covariance sum, so that (n-1)/2 stays whole.
	cov := 2*moment - (n-1)*sum
	variance := n * (n*n - 1) / 6
	whole, rest := cov/variance, cov%variance
	for range fraction { // whole and fraction apart: cov << 16 may not fit
		rest <<= 1
		whole = whole<<1 + rest/variance
		rest %= variance
	}
	return whole, sum/n - (whole*(n-1)/2+half)>>fraction
}

// bestOf returns the smallest of best, which is measured, and fits.
func (e *integerEncoder) bestOf(best fit, fits ...fit) fit {
	for _, f := range fits {
		if f = e.measure(f); f.size < best.size {
			best = f
		}
	}
	return best
}

// measure estimates the size of f, and makes it unsigned where that is smaller.
func (e *integerEncoder) measure(f fit) fit {
	r := e.residuals(f)
	lo, hi := r[0], r[0]
	var folded, plain uint64
	for _, x := range r {
		folded += zigzag(x)
		plain += uint64(x)
		lo, hi = min(lo, x), max(hi, x)
	}
	n, slope := uint64(len(r)), varintBits(f.slope)
	f.size = estimate(n, max(zigzag(lo), zigzag(hi)), folded) + slope + varintBits(f.offset)
	g := f
	g.unsigned, g.offset = true, f.offset+lo
	g.size = estimate(n, uint64(hi)-uint64(lo), plain-n*uint64(lo)) + slope + varintBits(g.offset)
	if g.size < f.size {
		return g
	}
	return f
}

// estimate returns about how many bits n numbers take of which the greatest and
// the sum are given. The sum may have wrapped when the greatest is large.
func estimate(n, greatest, sum uint64) int {
	width := bits.Len64(greatest)
	packed := int(n) * width
	if width > maxRice {
		return packed
	}
	k := max(bits.Len64(sum/n)-1, 0)
	// The quotients' fractions, which the codes leave out, are a half on average.
	rice := n*uint64(k+1) + sum>>k
	if k > 0 {
		rice -= n / 2
	}
	return int(min(uint64(packed), rice))
}

func varintBits(x int64) int {
	if x == 0 {
		return 0
	}
	return (bits.Len64(zigzag(x)) + 6) / 7 * 8
}

// residuals returns r[1…] under f with a zigzag offset.
func (e *integerEncoder) residuals(f fit) []int64 {
	e.r = grow(e.r, len(e.y)-1)
	y, r := e.y[1:], e.r
	r = r[:len(y)]
	slope, offset := f.slope, f.offset
	switch f.predictor {
	case delta:
		last := offset
		for i, v := range y {
			r[i] = v - last
			last = v + offset
		}
	case curve:
		last, step := int64(0), slope
		for i, v := range y {
			r[i] = v - last - step - offset
			last, step = v, v-last
		}
	case line:
		at := int64(half)
		for i, v := range y {
			at += slope
			r[i] = v - at>>fraction - offset
		}
	default:
		level, shift := slope, uint(f.predictor-level1)+1
		for i, v := range y {
			r[i] = v - (level+half)>>fraction - offset
			level += (v<<fraction-level)>>(shift&63) + slope
		}
	}
	return r
}

// code returns the residuals under f as they are written.
func (e *integerEncoder) code(f fit) []uint64 {
	r := e.residuals(f)
	e.u = grow(e.u, len(r))
	u := e.u
	if f.unsigned {
		for i, x := range r {
			u[i] = uint64(x)
		}
		return u
	}
	for i, x := range r {
		u[i] = zigzag(x)
	}
	return u
}

// integerDecoder decodes integer columns; it holds scratch.
type integerDecoder struct{ u []uint64 }

// read decodes len(dst) numbers, at least one.
func (d *integerDecoder) read(r *reader, dst []int64) bool {
	first, ok := r.varint()
	if !ok {
		return false
	}
	dst[0] = first
	if len(dst) == 1 {
		return true
	}
	form, ok := r.byte()
	if !ok || form&^formKnown != 0 {
		return false
	}
	f := fit{predictor: predictor(form & formPredictor), unsigned: form&formUnsigned != 0}
	if f.predictor > level3 {
		return false
	}
	if f.predictor == constant {
		for i := range dst {
			dst[i] = first
		}
		return form == byte(constant)
	}
	scale := uint64(1)
	if form&formScale != 0 {
		scale, ok = r.uvarint()
	}
	if ok && f.predictor >= curve {
		f.slope, ok = r.varint()
	}
	if ok && form&formOffset != 0 {
		f.offset, ok = r.varint()
	}
	d.u = grow(d.u, len(dst)-1)
	if !ok || !r.numbers(d.u) {
		return false
	}
	if !f.unsigned {
		for i, u := range d.u {
			d.u[i] = uint64(unzigzag(u))
		}
	}
	d.predict(f, dst)
	for i, y := range dst[1:] {
		dst[i+1] = first + y*int64(scale)
	}
	return true
}

// predict turns the residuals in u into y[1…] in dst[1…].
func (d *integerDecoder) predict(f fit, dst []int64) {
	dst = dst[1:]
	u := d.u[:len(dst)]
	slope, offset := f.slope, f.offset
	switch f.predictor {
	case delta:
		y := int64(0)
		for i, x := range u {
			y += int64(x) + offset
			dst[i] = y
		}
	case curve:
		y, step := int64(0), slope
		for i, x := range u {
			step += int64(x) + offset
			y += step
			dst[i] = y
		}
	case line:
		at := int64(half)
		for i, x := range u {
			at += slope
			dst[i] = at>>fraction + offset + int64(x)
		}
	default:
		level, shift := slope, uint(f.predictor-level1)+1
		for i, x := range u {
			y := (level+half)>>fraction + offset + int64(x)
			level += (y<<fraction-level)>>(shift&63) + slope
			dst[i] = y
		}
	}
}

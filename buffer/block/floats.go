package block

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
)

// A value column begins with what its tag names in three bits; the tag's upper
// half is the decimal exponent e, 0 where there is none.
//
//	decimal    d / 10^e                                                ints
//	decimal32  the same by way of float32: what most drivers deliver   ints
//	…Except    the same with exceptions first                          exceptions · ints
//	nearDecimal  bits(d / 10^e) + a few units in the last place:
//	           decimals that went through arithmetic                   ints · ints
//	float32s   the bits of a float32, ordered                          ints
//	float64s   the bits of a float64, ordered                          ints
//	dictionary uvarint m · ints of m ordered bits · ints of indexes
//
// Division by 10^e is correctly rounded, so every short decimal comes back; the
// decoder has no product that is then added to, so no machine can fuse the two
// and change a bit. Whatever does not come back by bits (-0, NaN, ±Inf) is an
// exception.
type valueForm uint8

const (
	decimal         valueForm = 0
	decimalExcept   valueForm = 1
	decimal32       valueForm = 2
	decimal32Except valueForm = 3
	nearDecimal     valueForm = 4
	float32s        valueForm = 5
	float64s        valueForm = 6
	dictionary      valueForm = 7
)

// The tag byte of a series.
const (
	tagForm     = 7
	tagQuality  = 1 << 3
	tagExpShift = 4
)

const (
	maxExp     = 15
	maxExact   = 1 << 53 // integers up to here are float64s
	maxExact32 = 1 << 30
	maxUlps    = 128
)

// powersOf10 are exact.
var powersOf10 = [maxExp + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// valueEncoder codes value columns; it holds scratch.
type valueEncoder struct {
	ints       *integerEncoder
	d, ulps    []int64
	exceptions []int
	sorted     []uint64
	other      []byte
}

// append codes the float64 bits v and returns the tag that says how.
func (e *valueEncoder) append(dst []byte, v []uint64) ([]byte, byte) {
	for _, single := range []bool{false, true} {
		if exp, ok := e.decimals(v, single); ok {
			return e.appendDecimals(dst, v, exp, single)
		}
	}
	if exp, ok := e.nearDecimals(v); ok {
		dst = e.ints.append(dst, e.d)
		return e.ints.append(dst, e.ulps), byte(nearDecimal) | exp<<tagExpShift
	}
	form := float64s
	if allFloat32(v) {
		form = float32s
	}
	mark := len(dst)
	dst = e.ints.append(dst, e.ordered(v, form))
	if e.repeats(v) {
		e.other = e.appendDictionary(e.other[:0], v)
		if len(e.other) < len(dst)-mark {
			return append(dst[:mark], e.other...), byte(dictionary)
		}
	}
	return dst, byte(form)
}

func (e *valueEncoder) appendDecimals(dst []byte, v []uint64, exp byte, single bool) ([]byte, byte) {
	form := decimal
	if single {
		form = decimal32
	}
	if len(e.exceptions) > 0 {
		form++ // the form with exceptions
		dst = e.appendExceptions(dst, v)
	}
	return e.ints.append(dst, e.d), byte(form) | exp<<tagExpShift
}

// appendGuessed codes v as [valueEncoder.append] does, or by the distance of its
// decimals from those of guess where that is shorter. Guess may be nil.
func (e *valueEncoder) appendGuessed(dst []byte, v []uint64, guess []float64) ([]byte, byte) {
	mark := len(dst)
	dst, tag := e.append(dst, v)
	if guess == nil || valueForm(tag&tagForm) > decimal32Except {
		return dst, tag
	}
	exp := tag >> tagExpShift
	for i := range e.d {
		e.d[i] -= guessDecimal(guess[i], exp)
	}
	e.other = e.other[:0]
	if len(e.exceptions) > 0 {
		e.other = e.appendExceptions(e.other, v)
		for _, i := range e.exceptions {
			e.d[i] = e.d[max(i-1, 0)]
		}
	}
	e.other = e.ints.append(e.other, e.d)
	if len(e.other) >= len(dst)-mark {
		return dst, tag
	}
	return append(dst[:mark], e.other...), tag | tagGuessed
}

// guessDecimal returns x × 10^exp rounded to the nearest, halves upwards, and 0
// where it is not within 2^53. The conversion keeps the product from being fused
// with the sum.
func guessDecimal(x float64, exp byte) int64 {
	d := math.Floor(float64(x*powersOf10[exp]) + 0.5)
	if !(d > -maxExact && d < maxExact) {
		return 0
	}
	return int64(d)
}

// toDecimal returns v × 10^exp rounded, and whether it leads back to v.
func toDecimal(v uint64, exp byte, single bool) (int64, bool) {
	x := math.Float64frombits(v) * powersOf10[exp]
	limit := float64(maxExact)
	if single {
		limit = maxExact32
	}
	if !(x > -limit && x < limit) {
		return 0, false
	}
	d := int64(math.RoundToEven(x))
	return d, fromDecimal(d, exp, single) == v
}

func fromDecimal(d int64, exp byte, single bool) uint64 {
	q := float64(d) / powersOf10[exp]
	if single {
		q = float64(float32(q))
	}
	return math.Float64bits(q)
}

// sampleStep spreads a sample of 32 to 63 over n values.
func sampleStep(n int) int { return max(1, n/32) }

// decimals tries to write v as decimals into d. It finds the exponent on a
// sample, and raises it while the whole has too many exceptions.
func (e *valueEncoder) decimals(v []uint64, single bool) (exp byte, ok bool) {
	exp, ok = sampleExponent(v, single)
	for ; ok && exp <= maxExp; exp++ {
		e.convert(v, exp, single)
		if len(e.exceptions)*16 <= len(v) {
			return exp, true
		}
		if exp == maxExp || !worthRaising(v, e.exceptions, exp+1, single) {
			break
		}
	}
	return exp, ok && len(e.exceptions)*4 <= len(v)
}

// worthRaising reports whether some exceptions become decimals at exp.
func worthRaising(v []uint64, exceptions []int, exp byte, single bool) bool {
	for _, i := range exceptions {
		if _, ok := toDecimal(v[i], exp, single); ok {
			return true
		}
	}
	return false
}

// sampleExponent returns the least exponent that suits the whole sample, or else
// the one that suits most of it, at least seven eighths.
func sampleExponent(v []uint64, single bool) (best byte, ok bool) {
	step := sampleStep(len(v))
	allowed := (len(v) + step - 1) / step / 8
	for exp := byte(0); exp <= maxExp; exp++ {
		fails := 0
		for i := 0; i < len(v) && fails <= allowed; i += step {
			if _, ok := toDecimal(v[i], exp, single); !ok {
				fails++
			}
		}
		if fails <= allowed {
			best, ok, allowed = exp, true, fails-1
		}
		if fails == 0 {
			break
		}
	}
	return best, ok
}

// convert writes v as decimals into d; an exception repeats the decimal before.
func (e *valueEncoder) convert(v []uint64, exp byte, single bool) {
	e.d, e.exceptions = grow(e.d, len(v)), e.exceptions[:0]
	last := int64(0)
	for i, b := range v {
		d, ok := toDecimal(b, exp, single)
		if ok {
			last = d
		} else {
			e.exceptions = append(e.exceptions, i)
		}
		e.d[i] = last
	}
}

// appendExceptions writes how many there are, their places, and their bits.
func (e *valueEncoder) appendExceptions(dst []byte, v []uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(e.exceptions)))
	e.ulps = e.ulps[:0]
	for _, i := range e.exceptions {
		e.ulps = append(e.ulps, int64(i))
	}
	dst = e.ints.append(dst, e.ulps)
	for k, i := range e.exceptions {
		e.ulps[k] = int64(v[i])
	}
	return e.ints.append(dst, e.ulps)
}

// nearDecimals tries to write v as decimals and units in the last place.
func (e *valueEncoder) nearDecimals(v []uint64) (exp byte, ok bool) {
	e.d, e.ulps = grow(e.d, len(v)), grow(e.ulps, len(v))
	step := sampleStep(len(v))
	for exp = 0; exp < maxExp-1; exp++ {
		if e.near(v, exp, step) && e.near(v, exp, 1) {
			return exp, true
		}
	}
	return 0, false
}

func (e *valueEncoder) near(v []uint64, exp byte, step int) bool {
	for i := 0; i < len(v); i += step {
		x := math.Float64frombits(v[i]) * powersOf10[exp]
		if !(x > -maxExact && x < maxExact) {
			return false
		}
		d := int64(math.RoundToEven(x))
		ulps := int64(v[i] - fromDecimal(d, exp, false))
		if ulps <= -maxUlps || ulps >= maxUlps {
			return false
		}
		e.d[i], e.ulps[i] = d, ulps
	}
	return true
}

// allFloat32 reports whether every value is a float32. NaNs do not count: not
// every machine carries their bits through a conversion.
func allFloat32(v []uint64) bool {
	for _, b := range v {
		f := math.Float64frombits(b)
		if f != f || math.Float64bits(float64(float32(f))) != b {
			return false
		}
	}
	return true
}

// ordered maps the bits of floats to integers in the same order.
func (e *valueEncoder) ordered(v []uint64, form valueForm) []int64 {
	e.d = grow(e.d, len(v))
	for i, b := range v {
		if form == float32s {
			x := int32(math.Float32bits(float32(math.Float64frombits(b))))
			e.d[i] = int64(x ^ x>>31&math.MaxInt32)
			continue
		}
		e.d[i] = order(int64(b))
	}
	return e.d
}

// order turns the bits of a float64 into an integer of the same rank, and back.
func order(x int64) int64 { return x ^ x>>63&math.MaxInt64 }

// repeats reports whether values recur so often that a dictionary may pay: a
// sample of 64 tells, so that noise costs no sorting.
func (e *valueEncoder) repeats(v []uint64) bool {
	if len(v) < 16 {
		return false
	}
	e.sorted = e.sorted[:0]
	for i := 0; i < len(v); i += max(1, len(v)/64) {
		e.sorted = append(e.sorted, v[i])
	}
	n := len(e.sorted)
	slices.Sort(e.sorted)
	return len(slices.Compact(e.sorted))*4 <= n*3
}

// appendDictionary writes the distinct values in order and the index of each.
func (e *valueEncoder) appendDictionary(dst []byte, v []uint64) []byte {
	e.ulps = e.ulps[:0]
	for _, b := range v {
		e.ulps = append(e.ulps, order(int64(b)))
	}
	slices.Sort(e.ulps)
	words := slices.Compact(e.ulps)
	e.d = grow(e.d, len(v))
	for i, b := range v {
		w := order(int64(b))
		e.d[i] = int64(sort.Search(len(words), func(j int) bool { return words[j] >= w }))
	}
	dst = binary.AppendUvarint(dst, uint64(len(words)))
	dst = e.ints.append(dst, words)
	return e.ints.append(dst, e.d)
}

// valueDecoder decodes value columns; it holds scratch.
type valueDecoder struct {
	ints     *integerDecoder
	d, extra []int64
	places   []int64 // of exceptions
}

// read decodes len(dst) values of the form that tag names. Guess is nil, or what
// decimals were guessed to be.
func (d *valueDecoder) read(r *reader, tag byte, guess []float64, dst []uint64) bool {
	form, exp := valueForm(tag&tagForm), tag>>tagExpShift
	if exp != 0 && form > nearDecimal {
		return false
	}
	d.d = grow(d.d, len(dst))
	switch form {
	case dictionary:
		return d.readDictionary(r, dst)
	case decimalExcept, decimal32Except:
		return d.readExcept(r, exp, form == decimal32Except, guess, dst)
	}
	if !d.ints.read(r, d.d) {
		return false
	}
	switch form {
	case float64s:
		for i, x := range d.d {
			dst[i] = uint64(order(x))
		}
		return true
	case float32s:
		return expand32(dst, d.d)
	case nearDecimal:
		return d.readNear(r, exp, dst)
	}
	d.addGuess(guess, exp)
	divide(dst, d.d, exp, form == decimal32)
	return true
}

func (d *valueDecoder) addGuess(guess []float64, exp byte) {
	for i, g := range guess {
		d.d[i] += guessDecimal(g, exp)
	}
}

// divide turns decimals into float64 bits.
func divide(dst []uint64, ints []int64, exp byte, single bool) {
	if single {
		for i, x := range ints {
			dst[i] = fromDecimal(x, exp, true)
		}
		return
	}
	p := powersOf10[exp]
	for i, x := range ints {
		dst[i] = math.Float64bits(float64(x) / p)
	}
}

// expand32 turns ordered float32 bits into float64 bits.
func expand32(dst []uint64, ints []int64) bool {
	for i, x := range ints {
		n := int32(x)
		f := math.Float32frombits(uint32(n ^ n>>31&math.MaxInt32))
		if int64(n) != x || f != f {
			return false
		}
		dst[i] = math.Float64bits(float64(f))
	}
	return true
}

func (d *valueDecoder) readNear(r *reader, exp byte, dst []uint64) bool {
	d.extra = grow(d.extra, len(dst))
	if !d.ints.read(r, d.extra) {
		return false
	}
	for i, x := range d.d {
		dst[i] = fromDecimal(x, exp, false) + uint64(d.extra[i])
	}
	return true
}

// readExcept reads exceptions and decimals, and puts the exceptions in place.
func (d *valueDecoder) readExcept(r *reader, exp byte, single bool, guess []float64, dst []uint64) bool {
	n, ok := r.uvarint()
	if !ok || n == 0 || n > uint64(len(dst)) {
		return false
	}
	d.places, d.extra = grow(d.places, int(n)), grow(d.extra, int(n))
	if !d.ints.read(r, d.places) || !d.ints.read(r, d.extra) || !d.ints.read(r, d.d) {
		return false
	}
	d.addGuess(guess, exp)
	divide(dst, d.d, exp, single)
	for k, at := range d.places {
		if uint64(at) >= uint64(len(dst)) {
			return false
		}
		dst[at] = uint64(d.extra[k])
	}
	return true
}

func (d *valueDecoder) readDictionary(r *reader, dst []uint64) bool {
	m, ok := r.uvarint()
	if !ok || m == 0 || m > uint64(len(dst)) {
		return false
	}
	d.extra = grow(d.extra, int(m))
	if !d.ints.read(r, d.extra) || !d.ints.read(r, d.d) {
		return false
	}
	for i, x := range d.d {
		if uint64(x) >= m {
			return false
		}
		dst[i] = uint64(order(d.extra[x]))
	}
	return true
}

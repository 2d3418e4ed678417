package rules

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"github.com/edgeagent/edgeagent"
)

// The state is written little endian: numbers in full, texts and lists behind
// their length.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encoder appends to b.
type encoder struct{ b []byte }

func (w *encoder) u8(v uint8)    { w.b = append(w.b, v) }
func (w *encoder) u32(v uint32)  { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *encoder) u64(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *encoder) i64(v int64)   { w.u64(uint64(v)) }
func (w *encoder) f64(v float64) { w.u64(math.Float64bits(v)) }
func (w *encoder) flag(v bool)   { w.u8(uint8(truthValue(v))) }
func (w *encoder) text(s string) {
	w.u32(uint32(len(s)))
	w.b = append(w.b, s...)
}

// block writes what f writes behind its length.
func (w *encoder) block(f func()) {
	at := len(w.b)
	w.u32(0)
	f()
	binary.LittleEndian.PutUint32(w.b[at:], uint32(len(w.b)-at-4))
}

var errState = errors.New("the state does not fit together")

// decoder reads from b. After the first error it returns zeros.
type decoder struct {
	b   []byte
	err error
}

func (r *decoder) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = errState
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *decoder) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *decoder) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *decoder) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *decoder) i64() int64 { return int64(r.u64()) }

// time reads a rules time, or never. Others would overflow when durations are
// added to them.
func (r *decoder) time() int64 {
	t := r.i64()
	if t != never && (t > never/4 || t < -never/4) {
		r.err = errState
		return 0
	}
	return t
}

func (r *decoder) f64() float64 { return math.Float64frombits(r.u64()) }
func (r *decoder) flag() bool   { return r.u8() != 0 }
func (r *decoder) text() string { return string(r.take(int(r.u32()))) }

// count reads the length of a list whose items take at least size bytes, so that a
// damaged length costs no memory.
func (r *decoder) count(size int) int {
	n := r.u32()
	if int64(n)*int64(size) > int64(len(r.b)) {
		r.err = errState
		return 0
	}
	return int(n)
}

// block returns a decoder of what stands behind a length.
func (r *decoder) block() *decoder { return &decoder{b: r.take(int(r.u32())), err: r.err} }

// span reads a duration of a rule.
func (r *decoder) span() int64 {
	d := r.i64()
	if d < 0 || d > int64(MaxDuration) {
		r.err = errState
		return 0
	}
	return d
}

func (w *encoder) aggregate(a aggregate) {
	w.u32(a.n)
	w.u32(a.changes)
	for _, v := range []float64{a.sum, a.m2, a.min, a.max, a.first, a.last, a.rise} {
		w.f64(v)
	}
	w.i64(a.firstAt)
	w.i64(a.lastAt)
}

func (r *decoder) aggregate() (a aggregate) {
	a.n, a.changes = r.u32(), r.u32()
	for _, v := range []*float64{&a.sum, &a.m2, &a.min, &a.max, &a.first, &a.last, &a.rise} {
		*v = r.f64()
	}
	a.firstAt, a.lastAt = r.i64(), r.i64()
	return a
}

func (w *encoder) trend(t trend) {
	for _, v := range []float64{t.n, t.t, t.v, t.tt, t.tv} {
		w.f64(v)
	}
	w.i64(t.firstAt)
	w.i64(t.lastT)
}

func (r *decoder) trend() (t trend) {
	for _, v := range []*float64{&t.n, &t.t, &t.v, &t.tt, &t.tv} {
		*v = r.f64()
	}
	t.firstAt, t.lastT = r.i64(), r.i64()
	return t
}

// encodeRing writes a ring; empty panes take a byte.
func encodeRing[T summary[T]](w *encoder, r *ring[T], item func(T)) {
	for _, v := range []int64{r.width, r.head, r.mid, r.cur, r.begun} {
		w.i64(v)
	}
	for _, s := range append(r.slots[:], r.back) {
		if w.flag(!s.empty()); !s.empty() {
			item(s)
		}
	}
}

// decodeRing reads a ring of the same width, or refuses it.
func decodeRing[T summary[T]](d *decoder, r *ring[T], item func() T) {
	in := ring[T]{width: d.i64(), head: d.i64(), mid: d.i64(), cur: d.i64(), begun: d.time()}
	for i := range in.slots {
		if d.flag() {
			in.slots[i] = item()
		}
	}
	if d.flag() {
		in.back = item()
	}
	if in.width != r.width || in.head < 0 || in.head > in.mid || in.mid > in.cur+1 || in.cur-in.head >= panes || in.width <= 0 || in.cur > never/4/in.width || in.begun > (in.cur+1)*in.width {
		d.err = errState
	}
	if d.err == nil {
		*r = in
	}
}

func (w *paneWindow) encode(e *encoder) {
	e.i64(w.since)
	encodeRing(e, &w.ring, e.aggregate)
}

func (w *paneWindow) decode(d *decoder) {
	since := d.time()
	if decodeRing(d, &w.ring, d.aggregate); d.err == nil {
		w.since = since
	}
}

func (w *trendWindow) encode(e *encoder) { encodeRing(e, &w.ring, e.trend) }
func (w *trendWindow) decode(d *decoder) { decodeRing(d, &w.ring, d.trend) }

func (w *sampleWindow) encode(e *encoder) {
	e.i64(w.begun)
	e.i64(w.since)
	e.i64(w.lost)
	e.u32(uint32(w.n))
	for i := w.n - 1; i >= 0; i-- {
		s := w.back(i)
		e.i64(s.at)
		e.f64(s.v)
	}
	if e.flag(w.sketch != nil); w.sketch != nil {
		w.sketch.encode(e)
	}
}

func (w *sampleWindow) decode(d *decoder) {
	in := &sampleWindow{length: w.length, exact: w.exact, ring: make([]sample, len(w.ring)), begun: d.time(), since: d.time(), lost: d.time()}
	if in.n = d.count(16); in.n > len(in.ring) {
		d.err = errState
		return
	}
	for i := range in.n {
		in.ring[i] = sample{d.time(), d.f64()}
	}
	if d.flag() {
		in.sketch = &sketch{}
		in.sketch.decode(d, max(1, w.length/panes))
	}
	if in.sketch != nil && (in.n > 0 || in.length == 0 || in.exact) || in.length > 0 && in.sketch == nil && (in.begun >= 0) != (in.n > 0) {
		d.err = errState
	}
	if d.err == nil {
		*w = *in
	}
}

func (s *sketch) encode(e *encoder) {
	for _, v := range []int64{s.width, s.head, s.cur} {
		e.i64(v)
	}
	for _, v := range []float64{s.ref, s.unit, s.min, s.max} {
		e.f64(v)
	}
	for p := range s.counts {
		for b, c := range s.counts[p] {
			if c > 0 {
				e.u32(uint32(p)<<16 | uint32(b)<<8)
				e.u32(uint32(c))
			}
		}
	}
	e.u32(math.MaxUint32)
}

func (s *sketch) decode(d *decoder, width int64) {
	s.width, s.head, s.cur = d.i64(), d.i64(), d.i64()
	s.ref, s.unit, s.min, s.max = d.f64(), d.f64(), d.f64(), d.f64()
	for d.err == nil {
		place := d.u32()
		if place == math.MaxUint32 {
			break
		}
		p, b, c := place>>16, place>>8&0xff, d.u32()
		if p >= panes || b >= sketchBuckets || c > math.MaxUint16 || s.counts[p][b] > 0 {
			d.err = errState
			return
		}
		s.counts[p][b] = uint16(c)
		s.sums[b] += c
		s.total += c
	}
	if s.width != width || s.head < 0 || s.cur-s.head >= panes || s.head > s.cur || s.cur > never/4/width || !(s.unit > 0) || s.total == 0 {
		d.err = errState
	}
}

func (w *encoder) pairs(p edgeagent.Pairs) {
	w.u32(uint32(p.Len()))
	for k, v := range p.All {
		w.text(k)
		w.text(v)
	}
}

func (r *decoder) pairs() edgeagent.Pairs {
	m := map[string]string{}
	for range r.count(8) {
		k := r.text()
		m[k] = r.text()
	}
	return edgeagent.MakePairs(m)
}

func (w *encoder) series(s edgeagent.Series) {
	if w.flag(!s.IsZero()); s.IsZero() {
		return
	}
	k := s.Key()
	w.text(k.Sensor)
	w.text(k.Metric)
	w.text(k.Unit)
	w.u8(uint8(k.Kind))
	w.u8(k.Resolution)
	w.pairs(k.Tags)
	w.pairs(k.Labels)
}

func (r *decoder) series() edgeagent.Series {
	if !r.flag() {
		return edgeagent.Series{}
	}
	return edgeagent.NewSeries(edgeagent.SeriesKey{
		Sensor: r.text(), Metric: r.text(), Unit: r.text(), Kind: edgeagent.Kind(r.u8()), Resolution: r.u8(), Tags: r.pairs(), Labels: r.pairs(),
	})
}

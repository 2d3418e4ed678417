package rules

import (
	"math"
	"slices"
	"time"
	"unsafe"

	"github.com/edgeagent/edgeagent/rules/expression"
)

// How many samples windows keep.
const (
	exactSamples = 256 // of a time window before it goes over to a sketch
	maxSamples   = expression.MaxSamples
)

// Sizes of windows in bytes, for the memory account.
const (
	paneWindowSize  = int64(unsafe.Sizeof(paneWindow{})) + windowOverhead
	trendWindowSize = int64(unsafe.Sizeof(trendWindow{})) + windowOverhead
	sketchSize      = int64(unsafe.Sizeof(sketch{}))
	sampleSize      = int64(unsafe.Sizeof(sample{}))
	// windowOverhead is a map entry and an interface that lead to the window.
	windowOverhead = 64
)

type sample struct {
	at int64
	v  float64
}

// sampleWindow keeps the samples themselves: the last n, or those of a time. A
// time window that holds more than 256 goes on as a sketch; one that has to be
// exact holds 4,096, and is unknown while there would be more.
type sampleWindow struct {
	length  int64 // ns; 0: by count
	exact   bool
	ring    []sample
	head, n int
	begun   int64 // as of ring
	since   int64
	lost    int64 // when the newest sample that did not fit would have been forgotten
	sketch  *sketch
	summary aggregate // of what is held; valid if fresh
	fresh   bool
}

func newSampleWindow(span expression.Window, exact bool, now int64) *sampleWindow {
	w := &sampleWindow{length: int64(span.Duration), exact: exact, begun: -1, since: now}
	w.ring = make([]sample, sampleCapacity(span, exact))
	return w
}

func sampleCapacity(span expression.Window, exact bool) int {
	switch {
	case span.Count > 0:
		return span.Count
	case exact:
		return maxSamples
	}
	return exactSamples
}

func sampleWindowSize(span expression.Window, exact bool) int64 {
	size := int64(unsafe.Sizeof(sampleWindow{})) + windowOverhead + sampleSize*int64(sampleCapacity(span, exact))
	if span.Count == 0 && !exact {
		size += sketchSize
	}
	return size
}

func (w *sampleWindow) size() int64 {
	size := int64(unsafe.Sizeof(*w)) + windowOverhead + sampleSize*int64(len(w.ring))
	if w.length > 0 && !w.exact {
		size += sketchSize
	}
	return size
}

// back returns the i-th newest sample.
func (w *sampleWindow) back(i int) sample {
	return w.ring[(w.head+w.n-1-i)%len(w.ring)]
}

func (w *sampleWindow) add(at int64, v float64) {
	w.advance(at)
	if w.begun < 0 {
		w.begun = at
	}
	w.fresh = false
	if w.sketch != nil {
		w.sketch.add(at, v)
		return
	}
	if w.n == len(w.ring) {
		switch {
		case w.length > 0 && !w.exact:
			w.sketch = newSketch(w)
			w.head, w.n = 0, 0
			w.sketch.add(at, v)
			return
		case w.length > 0:
			w.lost = w.ring[w.head].at + w.length
		}
		w.head, w.n = (w.head+1)%len(w.ring), w.n-1
	}
	// A late sample goes to its place: few are late, and not by much.
	i := w.n
	for ; i > 0 && w.ring[(w.head+i-1)%len(w.ring)].at > at; i-- {
		w.ring[(w.head+i)%len(w.ring)] = w.ring[(w.head+i-1)%len(w.ring)]
	}
	w.ring[(w.head+i)%len(w.ring)] = sample{at, v}
	w.n++
}

func (w *sampleWindow) advance(now int64) {
	if w.length == 0 {
		return
	}
	if w.sketch != nil {
		w.fresh = false
		if w.sketch.advance(now); w.sketch.total == 0 {
			w.sketch, w.begun = nil, -1
		}
		return
	}
	for w.n > 0 && w.ring[w.head].at <= now-w.length {
		w.head, w.n, w.fresh = (w.head+1)%len(w.ring), w.n-1, false
	}
	if w.n == 0 {
		w.begun = -1
	}
}

// complete reports whether no sample had to be left out.
func (w *sampleWindow) complete(now int64) bool { return w.lost <= now }

func (w *sampleWindow) covered(now int64) bool {
	if w.length == 0 {
		return w.n == len(w.ring)
	}
	return w.begun >= 0 && now-w.begun >= w.length/panes*(panes-1)
}

func (w *sampleWindow) expires() int64 {
	switch {
	case w.length == 0 || w.begun < 0:
		return never
	case w.sketch != nil:
		return (w.sketch.cur + 1) * w.sketch.width
	}
	return w.ring[w.head].at + w.length
}

// aggregate summarises the samples.
func (w *sampleWindow) aggregate() aggregate {
	if !w.fresh {
		w.summary = aggregate{}
		for i := w.n - 1; i >= 0; i-- {
			s := w.back(i)
			w.summary = w.summary.merge(one(s.at, s.v))
		}
		w.fresh = true
	}
	return w.summary
}

// slope is that of the least-squares line through the samples.
func (w *sampleWindow) slope() float64 {
	var t trend
	if w.n > 0 {
		origin := w.back(w.n - 1).at
		for i := w.n - 1; i >= 0; i-- {
			s := w.back(i)
			t = t.merge(trend{n: 1, t: float64(s.at-origin) / float64(time.Second), v: s.v})
		}
	}
	return t.slope()
}

// sorted puts the values in order into scratch, which holds maxSamples.
func (w *sampleWindow) sorted(scratch []float64) []float64 {
	vs := scratch[:0]
	for i := range w.n {
		vs = append(vs, w.back(i).v)
	}
	slices.Sort(vs)
	return vs
}

// quantile interpolates between the two nearest ranks (type 7 of Hyndman and Fan,
// as numpy and R do).
func (w *sampleWindow) quantile(p float64, scratch []float64) float64 {
	if w.sketch != nil {
		return w.sketch.quantile(p)
	}
	return quantileOf(w.sorted(scratch), p)
}

func quantileOf(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := p * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// mad is the median distance from the median.
func (w *sampleWindow) mad(scratch []float64) float64 {
	if w.sketch != nil {
		return w.sketch.mad()
	}
	vs := w.sorted(scratch)
	m := quantileOf(vs, 0.5)
	for i, v := range vs {
		vs[i] = math.Abs(v - m)
	}
	slices.Sort(vs)
	return quantileOf(vs, 0.5)
}

// Shape of a sketch: 127 buckets whose width grows with the distance from a
// reference inside the data, so that an offset (pressure in Pa, temperature in K)
// costs no accuracy. Around the reference a bucket is 1/192 of the distance
// between the 10 % and 90 % quantiles wide, at that distance 1/11.
const (
	sketchBuckets = 127
	sketchCentre  = sketchBuckets / 2
	sketchGrowth  = 12 // buckets per factor e
	sketchUnits   = 16 // units in the spread of the values
)

// sketch counts values by bucket and pane.
type sketch struct {
	width     int64
	head, cur int64
	ref, unit float64
	min, max  float64 // of all values since it was made
	total     uint32
	counts    [panes][sketchBuckets]uint16 // a full bucket stays full: 65,535 in a pane
	sums      [sketchBuckets]uint32
}

// newSketch begins with the samples of w.
func newSketch(w *sampleWindow) *sketch {
	s := &sketch{width: max(1, w.length/panes)}
	vs := make([]float64, 0, w.n)
	vs = w.sorted(vs)
	s.min, s.max = vs[0], vs[len(vs)-1]
	s.place(quantileOf(vs, 0.5), quantileOf(vs, 0.9)-quantileOf(vs, 0.1))
	s.cur = w.back(w.n-1).at / s.width
	s.head = s.cur
	for i := w.n - 1; i >= 0; i-- {
		b := w.back(i)
		s.add(b.at, b.v)
	}
	return s
}

// place decides what the buckets stand for.
func (s *sketch) place(ref, spread float64) {
	if !(spread > 0) {
		spread = s.max - s.min
	}
	if !(spread > 0) || math.IsInf(spread, 0) {
		spread = max(math.Abs(ref)*1e-9, math.SmallestNonzeroFloat32)
	}
	s.ref, s.unit = ref, spread/sketchUnits
}

func (s *sketch) bucket(v float64) int {
	d := (v - s.ref) / s.unit
	i := math.Copysign(math.Round(sketchGrowth*math.Log1p(math.Abs(d))), d)
	return sketchCentre + int(max(-sketchCentre, min(sketchCentre, i)))
}

// stretch makes the buckets wider when v is beyond the last one, by at most a
// factor of 8: a single value that is far away may not cost all others their
// accuracy.
func (s *sketch) stretch(v float64) {
	reach := math.Expm1(float64(sketchCentre-1) / sketchGrowth)
	need := math.Abs(v-s.ref) / reach
	if need <= s.unit || s.total == 0 {
		return
	}
	most := 8 * (s.quantile(0.9) - s.quantile(0.1)) / sketchUnits
	if unit := min(need*1.1, most); unit > s.unit {
		s.rebin(s.ref, unit)
	}
}

// value is the middle of a bucket; the outermost hold what is beyond them, too.
func (s *sketch) value(bucket int) float64 {
	switch bucket {
	case 0:
		return s.min
	case sketchBuckets - 1:
		return s.max
	}
	i := float64(bucket - sketchCentre)
	v := s.ref + math.Copysign(math.Expm1(math.Abs(i)/sketchGrowth), i)*s.unit
	return max(s.min, min(s.max, v))
}

func (s *sketch) add(at int64, v float64) {
	s.advance(at)
	pane := min(at/s.width, s.cur)
	if pane < s.head {
		return
	}
	s.min, s.max = min(s.min, v), max(s.max, v)
	s.stretch(v)
	b := s.bucket(v)
	if c := &s.counts[uint64(pane)%panes][b]; *c < math.MaxUint16 {
		*c++
		s.sums[b]++
		s.total++
	}
}

func (s *sketch) advance(now int64) {
	pane := now / s.width
	if pane <= s.cur {
		return
	}
	for p := s.head; p <= min(s.cur, pane-panes); p++ {
		s.forget(p)
	}
	s.head = max(s.head, pane-panes+1)
	s.cur = pane
	if s.total > 0 {
		s.recentre()
	}
}

// recentre begins anew around the values that are left when they have moved away
// from the reference, where buckets are wide, or stand closer than the buckets are
// made for.
func (s *sketch) recentre() {
	m, spread := s.middle(0.5), s.quantile(0.9)-s.quantile(0.1)
	away := m < sketchCentre/2 || m > sketchCentre+sketchCentre/2
	if !away && !(spread > 0 && spread < s.unit*sketchUnits/4) {
		return
	}
	unit := spread / sketchUnits
	if !(spread > 0) {
		unit = s.unit / sketchUnits
	}
	least, most := s.value(s.middle(0)), s.value(s.middle(1))
	s.rebin(s.value(m), unit)
	s.min, s.max = least, most
}

func (s *sketch) forget(pane int64) {
	counts := &s.counts[uint64(pane)%panes]
	for b, c := range counts {
		s.sums[b] -= uint32(c)
		s.total -= uint32(c)
	}
	*counts = [sketchBuckets]uint16{}
}

// rebin counts anew in buckets around ref.
func (s *sketch) rebin(ref, unit float64) {
	old := *s
	s.ref, s.unit = ref, max(unit, math.SmallestNonzeroFloat32, math.Abs(ref)*1e-12)
	s.counts, s.sums, s.total = [panes][sketchBuckets]uint16{}, [sketchBuckets]uint32{}, 0
	for p := range old.counts {
		for b, c := range old.counts[p] {
			if c > 0 {
				to := s.bucket(old.value(b))
				c = min(c, math.MaxUint16-s.counts[p][to])
				s.counts[p][to] += c
				s.sums[to] += uint32(c)
				s.total += uint32(c)
			}
		}
	}
}

// middle returns the bucket that holds the quantile p.
func (s *sketch) middle(p float64) int {
	rank, seen := p*float64(s.total), 0.0
	for b, c := range s.sums {
		if seen += float64(c); c > 0 && seen >= rank {
			return b
		}
	}
	return sketchCentre
}

func (s *sketch) quantile(p float64) float64 {
	if s.total == 0 {
		return math.NaN()
	}
	return s.value(s.middle(p))
}

// mad walks from the median outwards on both sides until half of the values are
// inside.
func (s *sketch) mad() float64 {
	if s.total == 0 {
		return math.NaN()
	}
	m := s.middle(0.5)
	centre, inside, distance := s.value(m), s.sums[m], 0.0
	for lo, hi := m-1, m+1; 2*inside < s.total && (lo >= 0 || hi < sketchBuckets); {
		below, above := math.Inf(1), math.Inf(1)
		if lo >= 0 {
			below = centre - s.value(lo)
		}
		if hi < sketchBuckets {
			above = s.value(hi) - centre
		}
		if below <= above {
			distance, inside, lo = below, inside+s.sums[lo], lo-1
		} else {
			distance, inside, hi = above, inside+s.sums[hi], hi+1
		}
	}
	return distance
}

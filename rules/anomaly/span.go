package anomaly

const (
	// spanGrowth: one reading widens the span to at most twenty times its width,
	// so that a number made of garbage does not blind the detector to everything
	// else: floorShare of it is then 4 % of what was. A new range that lasts is
	// taken up within a few readings.
	spanGrowth = 20
	// spanMemory is how long a range stays in mind, in seconds: a year, the longest
	// period that nature has. What is older must not make it blind.
	spanMemory = 365 * 86400
)

// span is the range that a quantity has been in.
type span struct{ lo, hi float64 }

// width is at least 0.
func (s *span) width() float64 { return s.hi - s.lo }

// beyond returns by how much x lies outside, as a share of the width, and 0 when it
// lies within or when there is no width to compare with. A step of the resolution
// is not counted: the next number that a coarse sensor can show is no record.
func (s *span) beyond(x, resolution float64) float64 {
	over := max(x-s.hi, s.lo-x) - resolution
	if over <= 0 || s.hi <= s.lo {
		return 0
	}
	return min(over/(s.width()+resolution), mostEvidence)
}

// bound cuts x off at what one reading can widen the span to.
func (s *span) bound(x float64) float64 {
	w := s.width()
	if w == 0 {
		return x
	}
	return clamp(x, s.lo-(spanGrowth-1)*w, s.hi+(spanGrowth-1)*w)
}

// widen takes x into the span.
func (s *span) widen(x float64) {
	x = s.bound(x)
	s.lo, s.hi = min(s.lo, x), max(s.hi, x)
}

// forget draws the ends towards center, by the time that has passed in seconds.
func (s *span) forget(center, elapsed float64) {
	k := elapsed / spanMemory
	center = clamp(center, s.lo, s.hi) // the ends never cross
	s.hi -= k * (s.hi - center)
	s.lo += k * (center - s.lo)
}

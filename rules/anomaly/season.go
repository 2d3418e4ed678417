package anomaly

import "math"

const (
	daySlots  = 48  // half hours
	weekSlots = 168 // hours
	halfHour  = 1800
	hour      = 3600

	// seasonRate: a slot's memory is five visits, which are five days or five
	// weeks. Habits change within that; less, and one strange day is the rule.
	seasonRate = 0.2
	// seasonClip bounds what one visit moves its slot by, in usual distances.
	seasonClip = 4
)

// season knows what is usual at this time of the day and of the week, and answers
// by the one of the two that explains more. Each slot is compared with what it was
// on earlier visits, never with the visit that goes on: a sensor that speaks every
// second would else be compared with its reading before.
type season struct {
	day, week profile
	dayMean   [daySlots]float64
	weekMean  [weekSlots]float64
	dayCount  [daySlots]uint8 // visits, up to 255
	weekCount [weekSlots]uint8
}

// outlook is what the season says of a reading.
type outlook struct {
	known    bool
	distance float64 // of the reading from what is usual at its time
	usual    float64 // the mean of such distances so far
}

// look compares x, read at the Unix time sec, with the season and takes it in. floor
// is what no distance is less than, weight that of the reading.
func (s *season) look(sec int64, x, floor, weight float64) outlook {
	d, dayKnown := s.day.look(s.dayMean[:], s.dayCount[:], sec, halfHour, x, floor, weight)
	w, weekKnown := s.week.look(s.weekMean[:], s.weekCount[:], sec, hour, x, floor, weight)
	switch {
	case weekKnown && s.week.usual < s.day.usual:
		return outlook{true, w, s.week.usual}
	case dayKnown:
		return outlook{true, d, s.day.usual}
	}
	return outlook{}
}

// profile is the part of a period's profile that is not its slots.
type profile struct {
	usual   float64 // mean distance of readings from their slot
	n       uint32  // readings in usual; stays at its maximum
	learned float64 // weight of them, up to learning
	visit   int64   // the slot that goes on, counted since 1970
	mean    float64 // of its readings
	count   uint32  // of its readings; 0 before the first reading; stays at its maximum
}

// look returns the distance of x from its slot and takes x in. The distance is known
// when the slot has been visited before and the usual distance rests on as much as a
// detector alerts on.
func (p *profile) look(means []float64, visits []uint8, sec, width int64, x, floor, weight float64) (dist float64, known bool) {
	visit := floorDiv(sec, width)
	if p.count > 0 && visit != p.visit {
		p.fold(means, visits, floor)
	}
	p.visit = visit
	slot := slotOf(visit, len(means))
	dist = math.Abs(x - means[slot])
	if visits[slot] > 0 {
		known = p.learned >= learning
		p.learned = min(p.learned+weight, learning)
		p.n += min(1, math.MaxUint32-p.n)
		d := dist
		if p.n > settled {
			d = min(d, levelClip*(p.usual+floor))
		}
		p.usual += max(levelRate*weight, 1/float64(p.n)) * (d - p.usual)
	}
	p.count += min(1, math.MaxUint32-p.count)
	p.mean += (x - p.mean) / float64(p.count)
	return dist, known
}

// fold closes the visit that went on: its mean becomes part of its slot.
func (p *profile) fold(means []float64, visits []uint8, floor float64) {
	slot := slotOf(p.visit, len(means))
	v := float64(visits[slot])
	delta := p.mean - means[slot]
	if v >= 3 { // before, the slot itself may be the strange one
		delta = clip(delta, seasonClip*(p.usual+floor))
	}
	means[slot] += max(seasonRate, 1/(v+1)) * delta
	if visits[slot] < math.MaxUint8 {
		visits[slot]++
	}
	p.mean, p.count = 0, 0
}

// slotOf returns the slot of a visit within a period of n slots.
func slotOf(visit int64, n int) int {
	return int(visit - floorDiv(visit, int64(n))*int64(n))
}

// floorDiv is a/b rounded down, also before 1970.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

package uplink

import "time"

// schedule is the times of day at which a link may be up, in one time zone.
type schedule struct {
	spans []span
	loc   *time.Location
}

// newSchedule reads a configuration that was validated. It is empty when the link may
// always be up.
func newSchedule(c ConnectConfig) schedule {
	var s schedule
	for _, text := range c.Times {
		if x, err := parseSpan(text); err == nil {
			s.spans = append(s.spans, x)
		}
	}
	s.loc, _ = location(c.Timezone)
	return s
}

// look returns whether the link may be up at t, and when that changes: at the latest
// after eight days, when one should look again.
func (s schedule) look(t time.Time) (open bool, until time.Time) {
	if len(s.spans) == 0 {
		return true, t.AddDate(1, 0, 0)
	}
	t = t.In(s.loc)
	until = t.AddDate(0, 0, 8)
	for _, x := range s.spans {
		// A span that runs over midnight has begun on the day before.
		for day := -1; day <= 7; day++ {
			from, to, ok := s.at(x, t, day)
			if !ok {
				continue
			}
			switch {
			case !t.Before(from) && t.Before(to):
				open = true
				until = earlier(until, to)
			case from.After(t):
				until = earlier(until, from)
			}
		}
	}
	return open, until
}

// at returns when a span begins and ends on a day, counted from t's. Clocks that are
// put forward or back move the ends as they move the clock on the wall.
func (s schedule) at(x span, t time.Time, day int) (from, to time.Time, ok bool) {
	y, m, d := t.Date()
	from = time.Date(y, m, d+day, 0, x.from, 0, 0, s.loc)
	to = time.Date(y, m, d+day, 0, x.to, 0, 0, s.loc)
	noon := time.Date(y, m, d+day, 12, 0, 0, 0, s.loc)
	return from, to, x.days[noon.Weekday()]
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// periodAt returns the month, counted from a day of the month, that t lies in. Where a
// month has no such day it begins on the last one.
func periodAt(t time.Time, resetDay int, loc *time.Location) (from, to time.Time) {
	t = t.In(loc)
	begin := func(months int) time.Time {
		y, m, _ := t.Date()
		last := time.Date(y, m+time.Month(months)+1, 0, 0, 0, 0, 0, loc).Day()
		return time.Date(y, m+time.Month(months), min(resetDay, last), 0, 0, 0, 0, loc)
	}
	if from = begin(0); t.Before(from) {
		return begin(-1), from
	}
	return from, begin(1)
}

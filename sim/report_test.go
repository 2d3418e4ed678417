package sim

import (
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	good := Report{Accepted: 100, Delivered: 100}
	seen := func(r Report) Report { r.LinkDown, r.LinkUp = true, true; return r }
	cases := []struct {
		name   string
		report Report
		gaps   uint64 // records that reported gaps account for
		outage bool
		lost   int64
		ok     bool
	}{
		{"all arrived", good, 0, false, 0, true},
		{"all arrived, over an outage", seen(good), 0, true, 0, true},
		{"what is missing is reported", Report{Accepted: 100, Delivered: 90}, 10, false, 0, true},
		{"resent is fine", Report{Accepted: 100, Delivered: 100, Resent: 40}, 0, false, 0, true},
		{"lost", Report{Accepted: 100, Delivered: 99}, 0, false, 1, false},
		{"more arrived than was accepted", Report{Accepted: 100, Delivered: 101}, 0, false, -1, false},
		{"a gap reported of what arrived", Report{Accepted: 100, Delivered: 100}, 1, false, -1, false},
		{"stored twice", Report{Accepted: 100, Delivered: 100, Duplicates: 1}, 0, false, 0, false},
		{"a hole that no gap explains", Report{Accepted: 100, Delivered: 100, Gaps: 1}, 0, false, 0, false},
		{"nothing happened", Report{}, 0, false, 0, false},
		{"the link was never seen down", Report{Accepted: 100, Delivered: 100, LinkUp: true}, 0, true, 0, false},
		{"the link never came back", Report{Accepted: 100, Delivered: 100, LinkDown: true}, 0, true, 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.report.judge(c.gaps, c.outage)
			if c.report.Lost != c.lost || c.report.OK != c.ok {
				t.Errorf("lost %d, ok %v, want %d, %v", c.report.Lost, c.report.OK, c.lost, c.ok)
			}
		})
	}
}

func TestArrivalsAround(t *testing.T) {
	up := time.Unix(1000, 0)
	at := func(ms int) time.Time { return up.Add(time.Duration(ms) * time.Millisecond) }
	commit := func(ms, count, first, last int) arrival {
		return arrival{at(ms), count, at(first).UnixNano(), at(last).UnixNano()}
	}
	cases := []struct {
		name  string
		in    []arrival
		first time.Duration
		rate  float64
	}{
		{"nothing", nil, 0, 0},
		{"only from before", []arrival{commit(-10, 5, -100, -20)}, 0, 0},
		{"live first, then the backlog", []arrival{commit(50, 2, 10, 20), commit(500, 400, -9000, -5000), commit(1000, 600, -5000, -10)}, 50 * time.Millisecond, 1000},
		{"one commit of both", []arrival{commit(250, 10, -20, 100)}, 250 * time.Millisecond, 40},
		{"a backlog and nothing live", []arrival{commit(100, 10, -20, -1)}, 0, 100},
		{"live and no backlog", []arrival{commit(30, 1, 0, 0), commit(60, 1, 31, 31)}, 30 * time.Millisecond, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var a arrivals
			for _, e := range c.in {
				a.add(e)
			}
			first, rate := a.around(up)
			if first != c.first || rate != c.rate {
				t.Errorf("first live after %v at %v readings/s, want %v and %v", first, rate, c.first, c.rate)
			}
			a.reset()
			if first, rate := a.around(up); first != 0 || rate != 0 {
				t.Errorf("after reset %v, %v", first, rate)
			}
		})
	}
}

func TestArrivalsAreBounded(t *testing.T) {
	var a arrivals
	for range maxArrivals + 10 {
		a.add(arrival{})
	}
	if len(a.entries) != maxArrivals {
		t.Errorf("%d entries", len(a.entries))
	}
}

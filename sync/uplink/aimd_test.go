package uplink

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// pacer is what bounds what is in flight.
type pacer interface {
	target() int
	room() bool
	sent(now time.Duration, size int) mark
	done(now time.Duration, m mark, size int)
}

var _ pacer = (*window)(nil)

// aimd is the textbook's window, to hold ours against: additive increase,
// multiplicative decrease by delay (0.9 once a round trip, when a message takes longer
// than max(2 × base, srtt + 4 × rttvar)), in messages, and at most a second of the
// measured rate in bytes.
type aimd struct {
	win, threshold  float64
	messages, bytes int
	base, srtt, dev time.Duration
	cut             time.Duration // when it was last decreased
	rate            float64
	delivered       uint64
}

func (w *aimd) target() int {
	return max(smallestMessage, min(int(w.rate/2), typicalMessage))
}

func (w *aimd) room() bool {
	return w.messages == 0 || w.messages < int(w.win) && float64(w.bytes+w.target()) <= max(w.rate, 64<<10)
}

func (w *aimd) sent(now time.Duration, size int) mark {
	m := mark{at: now, delivered: w.delivered}
	w.messages++
	w.bytes += size
	m.full = !w.room()
	return m
}

func (w *aimd) done(now time.Duration, m mark, size int) {
	w.messages--
	w.bytes -= size
	w.delivered += uint64(size)
	rtt := max(now-m.at, time.Millisecond)
	if rate := float64(w.delivered-m.delivered) / rtt.Seconds(); rate > w.rate {
		w.rate = rate
	} else if m.full {
		w.rate += (rate - w.rate) / 8
	}
	if w.base == 0 || rtt < w.base {
		w.base = rtt
	}
	if w.srtt == 0 {
		w.srtt = rtt
	}
	slow := rtt > max(2*w.base, w.srtt+4*w.dev)
	w.dev += ((rtt - w.srtt).Abs() - w.dev) / 4
	w.srtt += (rtt - w.srtt) / 8
	switch {
	case slow && now-w.cut > w.srtt:
		w.win, w.cut = max(1, 0.9*w.win), now
		w.threshold = w.win
	case slow || !m.full:
	case w.win < w.threshold:
		w.win = min(w.win+1, maxInFlight)
	default:
		w.win = min(w.win+1/w.win, maxInFlight)
	}
}

// pipe is a link: a rate, a delay behind it, and a queue before it that takes what it
// is given.
type pipe struct {
	rate  float64
	delay time.Duration
}

// drained is what came of a minute of drain.
type drained struct {
	used float64 // of the link
	p99  time.Duration
}

// drain sends backlog without end and a live message of 400 bytes each 250 ms, which
// goes first. Without backlog it says how long live takes alone.
func drain(w pacer, p pipe, backlog bool, seed uint64) drained {
	const tick, run = time.Millisecond, 2 * time.Minute
	type flying struct {
		arrives, result time.Duration
		mark            mark
		size            int
		since           time.Duration // of a live message, else 0
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	var flights []flying
	var waits, pending []time.Duration
	free, next := time.Duration(0), time.Duration(rnd.Int64N(int64(time.Second)))
	carried := 0.0
	send := func(now time.Duration, size int, since time.Duration) {
		free = max(free, now) + time.Duration(float64(size)/p.rate*1e9)
		flights = append(flights, flying{free + p.delay/2, free + p.delay, w.sent(now, size), size, since})
	}
	for now := time.Duration(0); now < run; now += tick {
		for len(flights) > 0 && flights[0].result <= now {
			f := flights[0]
			flights = flights[1:]
			w.done(now, f.mark, f.size)
			if now > run/2 {
				carried += float64(f.size)
			}
			if f.since > run/2 {
				waits = append(waits, f.arrives-f.since)
			}
		}
		if now >= next {
			pending = append(pending, now)
			next = now + 250*time.Millisecond
		}
		for w.room() && (len(pending) > 0 || backlog) {
			if len(pending) > 0 {
				send(now, 400, pending[0])
				pending = pending[1:]
				continue
			}
			send(now, w.target(), 0)
		}
	}
	slices.Sort(waits)
	return drained{carried / (p.rate * (run / 2).Seconds()), waits[len(waits)*99/100]}
}

// The window that follows the rate against the textbook's, on the same links: it must
// use the link as well, and live readings must not wait longer behind backlog.
func TestWindowAgainstAIMD(t *testing.T) {
	ours := func() pacer {
		w := &window{}
		w.newSession(maxInFlight, maxMessage)
		return w
	}
	textbook := func() pacer { return &aimd{win: 4, threshold: maxInFlight} }
	for _, p := range []pipe{
		{8_000, 600 * time.Millisecond},
		{8_000, 100 * time.Millisecond},
		{32_000, 100 * time.Millisecond},
		{32_000, 600 * time.Millisecond},
		{125_000, 50 * time.Millisecond},
		{1_250_000, 20 * time.Millisecond},
		{1_250_000, 600 * time.Millisecond},
		{12_500_000, 2 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%g kB/s %v", p.rate/1e3, p.delay), func(t *testing.T) {
			alone := drain(ours(), p, false, 1)
			us, them := drain(ours(), p, true, 1), drain(textbook(), p, true, 1)
			t.Logf("live p99 alone %4d ms; draining: ours %4d ms, %3.0f %% of the link; AIMD %5d ms, %3.0f %%",
				alone.p99.Milliseconds(), us.p99.Milliseconds(), 100*us.used, them.p99.Milliseconds(), 100*them.used)
			if us.used < 0.9 && us.used < 0.97*them.used {
				t.Errorf("uses %.0f %% of the link, AIMD %.0f %%", 100*us.used, 100*them.used)
			}
			if us.p99 > max(them.p99, 100*time.Millisecond) {
				t.Errorf("live waits %v, with AIMD %v", us.p99, them.p99)
			}
			if most := max(2*alone.p99, alone.p99+500*time.Millisecond); us.p99 > most {
				t.Errorf("live waits %v, alone %v", us.p99, alone.p99)
			}
		})
	}
}

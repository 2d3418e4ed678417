package uplink

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

// whole is what every run of a fault ends with: everything that was appended is
// confirmed, and held by the receiver, but for what is named as given up.
func (r *rig) whole() {
	r.t.Helper()
	if n := r.log.unconfirmed(); n > 0 {
		r.t.Errorf("%d records are unconfirmed", n)
	}
	for p, walls := range r.log.walls {
		for _, missing := range r.log.dead[p].Missing(edgeagent.Range{From: 1, To: edgeagent.Seq(len(walls))}) {
			if missing.Len() > 0 && !r.rx.holds(p, missing) {
				r.t.Errorf("the receiver lacks some of %s %v, and no gap names them", p.stream, missing)
			}
		}
	}
}

// F5: results that come late, twice, out of order, or of messages that never were.
func TestF05StrangeResults(t *testing.T) {
	for _, cfg := range []Config{blockConfig(), e2eConfig()} {
		t.Run(string(cfg.Ack), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, cfg)
				r.tr.reorder = rand.New(rand.NewPCG(1, 5))
				r.tr.again = func(m Message) []Result {
					return []Result{{ID: m.ID}, {ID: m.ID + 1<<40}, {ID: 0}, {ID: m.ID - 1, Class: Poison}}
				}
				r.log.addAt(edgeagent.StreamTelemetry, 50_000, 0)
				r.start()
				for range 100 {
					r.log.add(edgeagent.StreamTelemetry, 20)
					r.log.add(edgeagent.StreamAlarm, 1)
					pause(100 * time.Millisecond)
				}
				r.complete(time.Minute)
				if s := r.up.Stats(); s.Strays < 100 {
					t.Errorf("the test did not test: %d strays", s.Strays)
				}
				r.end()
				r.whole()
			})
		})
	}
}

// F12: 64 kbit/s, 600 ms, 2 % loss, a million readings of backlog, live readings and
// alarms.
func TestF12SlowLossyLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.rate, r.tr.delay = 8_000, 600*time.Millisecond
		r.tr.loss = rand.New(rand.NewPCG(1, 12))
		r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, 0)
		r.start()
		pause(10 * time.Second)
		from := r.up.Stats().Accepted.Bytes
		began := time.Now()
		var alarms []time.Time
		for range 600 {
			alarms = append(alarms, time.Now())
			r.log.add(edgeagent.StreamAlarm, 1)
			r.log.add(edgeagent.StreamTelemetry, 20)
			pause(time.Second)
		}
		used := float64(r.up.Stats().Accepted.Bytes-from) / time.Since(began).Seconds() / 8_000
		pause(10 * time.Second)
		var alarmed, live []time.Duration
		for _, a := range r.rx.arrivals() {
			switch a.lane {
			case LaneAlarm:
				for n := a.head.First; n <= a.head.Last(); n++ {
					alarmed = append(alarmed, a.at.Sub(alarms[n-1]))
				}
			case LaneLive:
				live = append(live, a.at.Sub(time.Unix(0, a.head.MinTime)))
			case LaneEvent, LaneBacklog:
			}
		}
		p99 := func(d []time.Duration) time.Duration { slices.Sort(d); return d[len(d)*99/100] }
		t.Logf("alarms: p50 %v, p99 %v; live: p50 %v, p99 %v, linger included; %.0f %% of the link",
			alarmed[len(alarmed)/2], p99(alarmed), live[len(live)/2], p99(live), 100*used)
		if len(alarmed) != 600 || p99(alarmed) > 2200*time.Millisecond {
			t.Errorf("%d alarms, p99 %v", len(alarmed), p99(alarmed))
		}
		if p99(live) > 2700*time.Millisecond {
			t.Errorf("live p99 %v", p99(live))
		}
		if used < 0.85 {
			t.Errorf("used %.0f %% of the link", 100*used)
		}
		r.tr.set(func() { r.tr.rate = 0 })
		r.complete(time.Hour)
		r.end()
		r.whole()
	})
}

// F16: what was evicted is named, and nothing waits for it.
func TestF16Eviction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.tr.rate = 10_000
		r.log.addAt(edgeagent.StreamTelemetry, 500_000, 0)
		r.start()
		pause(10 * time.Second)
		gone := edgeagent.Range{From: 100_000, To: 400_000}
		r.log.evict(place{0xe1, edgeagent.StreamTelemetry}, gone)
		r.tr.set(func() { r.tr.rate = 0 })
		r.complete(time.Minute)
		if s := r.up.Stats(); s.Backlog[edgeagent.StreamTelemetry] != 0 {
			t.Errorf("stats %+v", s)
		}
		marks := 0
		for _, a := range r.rx.arrivals() {
			if strings.Contains(a.payload, "M ") {
				marks++
			}
		}
		if marks == 0 {
			t.Error("no marks name the gap")
		}
		r.end()
		r.whole()
	})
}

// F17: the server forgets the session, again and again; nothing depends on what it
// remembers.
func TestF17LostSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.start()
		for i := range 200 {
			r.log.add(edgeagent.StreamTelemetry, 500)
			pause(time.Second)
			if i%20 == 19 {
				r.tr.kill()
			}
		}
		r.complete(10 * time.Minute)
		r.end()
		r.whole()
	})
}

// F19: another client with the same id: the fight is slow, and health names it.
func TestF19Takeover(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig()).start()
		began := time.Now()
		for time.Since(began) < time.Hour {
			r.log.add(edgeagent.StreamTelemetry, 10)
			waitUp(t, r)
			pause(5 * time.Second) // then the other one takes over
			r.tr.kill()
			pause(time.Second)
		}
		if s := r.up.Stats(); s.Connects > 150 {
			t.Errorf("%d sessions in an hour of fighting", s.Connects)
		}
		if h := r.up.Health(); h.Level != edgeagent.Degraded || !strings.Contains(h.Hint, "same device.id") {
			t.Errorf("health %+v", h)
		}
		r.complete(time.Hour)
		r.end()
		r.whole()
	})
}

// The invariants of the machine end the process of the engine, whoever breaks them: the
// agent's supervisor counts it, shows it and starts the uplink anew.
func TestInvariants(t *testing.T) {
	head := edgeagent.BatchHeader{Epoch: 1, Stream: edgeagent.StreamTelemetry, First: 1, Count: 1}
	up := func() *machine {
		m := newMachine(e2eConfig().WithDefaults(), rand.New(rand.NewPCG(1, 1)))
		m.next(0)
		m.connectionUp(0, Caps{MaxInFlight: 1})
		m.opened = true
		return m
	}
	for name, broken := range map[string]func(){
		"I1 confirmed by the wrong word": func() { up().confirm(AckTransport, 1, edgeagent.StreamTelemetry, head.Range()) },
		"I3 over the window":             func() { m := up(); m.sent(0, LaneLive, head, 10, 0); m.sent(0, LaneLive, head, 10, 0) },
		"I6 sent without a session":      func() { m := up(); m.connectionEnded(0, errDied); m.sent(0, LaneLive, head, 10, 0) },
		"I6 ended twice":                 func() { m := up(); m.connectionEnded(0, errDied); m.connectionEnded(0, errDied) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if v := recover(); v == nil {
					t.Error("nobody notices")
				}
			}()
			broken()
		})
	}
}

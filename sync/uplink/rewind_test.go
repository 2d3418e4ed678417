package uplink

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

const tele = edgeagent.StreamTelemetry

// putBack is a rig whose receiver holds numbers 1 to 216 of another life of the epoch;
// of ours 94 records are confirmed and 150 exist.
func putBack(t *testing.T) *rig {
	r := newRig(t, e2eConfig())
	p := place{0xe1, tele}
	r.log.marks = 1
	r.log.runs[p] = 2
	r.log.add(tele, 150)
	r.log.confirmed[p] = edgeagent.Ranges{{From: 1, To: 94}}
	r.rx.held[p] = edgeagent.Ranges{{From: 1, To: 216}}
	r.rx.onAck = func(a edgeagent.Ack) edgeagent.Ack {
		if a.Epoch == p.epoch {
			top := edgeagent.Top{Seq: 216, Run: 1}
			a.Top = map[edgeagent.Stream]edgeagent.Top{tele: top}
		}
		return a
	}
	r.log.onAck = func(p place, x edgeagent.Range) { t.Errorf("%v %v is confirmed", p, x) }
	return r
}

// look reads the log's own notes.
func (l *memLog) look(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// The proof is durable before anybody is told, the destination falls silent, and it
// asks for one restart.
func TestRewindAsksForARestart(t *testing.T) {
	for name, more := range map[string]int{"the receiver is ahead": 0, "the run of its top is another": 1000} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := putBack(t)
				r.log.add(tele, more)
				var told []Rewind
				r.o.OnRewind = func(x Rewind) { told = append(told, x) }
				r.start()
				pause(time.Hour)
				s, h := r.up.Stats(), r.up.Health()
				r.end()
				if r.log.proofs != 1 || len(told) != 1 || !told[0].Restart || told[0].Epoch != 0xe1 || told[0].Err == nil {
					t.Errorf("%d proofs, told %+v", r.log.proofs, told)
				}
				for _, a := range r.rx.arrivals() {
					if a.head.Count > 0 {
						t.Errorf("records were sent before the receiver had its say: %.20s", a.payload)
					}
				}
				if s.State != Stopped || s.Connects != 1 || h.Level != edgeagent.Failed || !strings.Contains(h.Text, "new epoch") {
					t.Errorf("stats %+v, health %+v", s, h)
				}
			})
		})
	}
}

// The log cannot take the proof for a while: nothing is confirmed meanwhile.
func TestRewindWaitsForTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := putBack(t)
		r.log.failLog = errors.New("disk full")
		told := 0
		r.o.OnRewind = func(Rewind) { r.log.look(func() { told++ }) }
		r.start()
		pause(10 * time.Minute)
		n := 0
		r.log.look(func() { n = told })
		if s := r.up.Stats(); s.Sent.Messages > 10 {
			t.Errorf("%d messages were sent meanwhile", s.Sent.Messages)
		}
		if n > 0 || r.up.Health().Code != "uplink-rewind" {
			t.Errorf("told %d times, health %+v", n, r.up.Health())
		}
		r.log.look(func() { r.log.failLog = nil })
		pause(2 * time.Minute)
		r.end()
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}

// A second rewind within the hour stops the destination.
func TestSecondRewindStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := putBack(t)
		r.log.late = true
		var told []Rewind
		r.o.OnRewind = func(x Rewind) { told = append(told, x) }
		r.start()
		pause(time.Hour)
		s, h := r.up.Stats(), r.up.Health()
		r.end()
		if len(told) != 1 || told[0].Restart || s.State != Stopped || h.Level != edgeagent.Failed || h.Hint == "" {
			t.Errorf("told %+v, state %s, health %+v", told, s.State, h)
		}
	})
}

// A process that goes on with an epoch that was proved to be put back asks again, and
// sends nothing.
func TestRewindKnownAtStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := putBack(t)
		r.log.rewound[0xe1] = true
		told := 0
		r.o.OnRewind = func(Rewind) { told++ }
		r.start()
		pause(time.Hour)
		r.end()
		if s := r.up.Stats(); told != 1 || s.Connects != 0 {
			t.Errorf("told %d times, stats %+v", told, s)
		}
	})
}

// After the restart what was not confirmed of the old epoch gets new numbers; what the
// receiver says of the old ones is not believed.
func TestRewoundEpochMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := putBack(t)
		r.log.rewound[0xe1] = true
		r.log.begin(0xe2)
		r.log.add(tele, 10)
		r.log.onAck = func(p place, x edgeagent.Range) {
			if p.epoch == 0xe1 || !r.rx.holds(p, x) {
				t.Errorf("%v %v is confirmed", p, x)
			}
		}
		r.start()
		pause(5 * time.Second) // what is moved comes after what Flush waits for
		r.complete(time.Minute)
		r.end()
		if n := len(r.log.walls[place{0xe2, tele}]); n != 10+150-94 || r.up.Stats().Moved != 56 {
			t.Errorf("%d records in the new epoch, %d moved", n, r.up.Stats().Moved)
		}
		for _, a := range r.rx.arrivals() {
			if a.head.Epoch == 0xe1 && a.head.Count > 0 {
				t.Errorf("sent under old numbers: %v", a.head.Range())
			}
		}
	})
}

// A conflict about an older epoch: those records get new numbers, and so does what is
// left of that epoch, for nobody knows how far the other life goes.
func TestConflictInAnOlderEpochMoves(t *testing.T) {
	for name, breaks := range map[string]bool{"the log works": false, "the log fails at first": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, e2eConfig())
				old := place{0xe1, tele}
				r.log.add(tele, 50_000)
				r.log.begin(0xe2)
				if breaks {
					r.log.failLog = errors.New("disk full")
				}
				r.rx.onAck = func(a edgeagent.Ack) edgeagent.Ack {
					if a.Epoch == old.epoch {
						a.Conflict = []edgeagent.Conflict{{Stream: tele, From: 1, To: 10, Run: 1}}
						a.Have[tele] = edgeagent.Ranges{{From: 1, To: 50_000}}
					}
					return a
				}
				confirm := r.log.onAck
				r.log.onAck = func(p place, x edgeagent.Range) {
					if p == old {
						t.Errorf("%v %v is confirmed", p, x)
					}
					confirm(p, x)
				}
				r.start()
				pause(time.Minute)
				r.log.look(func() { r.log.failLog = nil })
				pause(10 * time.Minute)
				r.complete(time.Hour)
				r.end()
				if n := len(r.log.walls[place{0xe2, tele}]); n != 50_000 || r.log.proofs != 0 {
					t.Errorf("%d records in the new epoch, %d proofs", n, r.log.proofs)
				}
			})
		})
	}
}

// One record that is refused whatever is done stands in nobody's way.
func TestPoisonedRecord(t *testing.T) {
	for _, cfg := range []Config{blockConfig(), e2eConfig()} {
		t.Run(string(cfg.Ack), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, cfg)
				bad := func(m Message) bool {
					for _, n := range []edgeagent.Seq{1, 777, 40_000} {
						if m.Identity.Stream == tele && m.Identity.Count > 0 && m.Identity.Range().Contains(n) {
							return true
						}
					}
					return false
				}
				r.tr.class = func(m Message) Class {
					if bad(m) {
						return Poison
					}
					return Accepted
				}
				r.log.addAt(tele, 50_000, 0)
				r.log.add(edgeagent.StreamEvent, 100)
				r.start()
				r.complete(10 * time.Minute)
				r.end()
				want := edgeagent.Ranges{{From: 1, To: 1}, {From: 777, To: 777}, {From: 40_000, To: 40_000}}
				if diff := cmp.Diff(want, r.log.dead[place{0xe1, tele}]); diff != "" {
					t.Errorf("dead letters (-want +got):\n%s", diff)
				}
				s := r.up.Stats()
				if s.DeadLetters != 3 || s.Sent.Messages > 600 {
					t.Errorf("stats %+v", s)
				}
				if n := len(r.up.engine.m.poison.suspects); n > 0 {
					t.Errorf("%d ranges are still sent apart", n)
				}
			})
		})
	}
}

// A live reading is refused twice, ten seconds apart; the readings after it do not wait.
func TestPoisonedLiveReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		var refused []time.Time
		r.tr.class = func(m Message) Class {
			if m.Identity.Stream == tele && m.Identity.Count > 0 && m.Identity.Range().Contains(5) {
				refused = append(refused, time.Now())
				return Poison
			}
			return Accepted
		}
		r.start()
		for range 20 {
			r.log.add(tele, 1)
			pause(time.Second)
		}
		for _, a := range r.rx.arrivals() {
			if n := a.head.Last(); n > 5 && time.Since(a.at) < time.Duration(19-int(n))*time.Second {
				t.Errorf("reading %d came %v ago", n, time.Since(a.at))
			}
		}
		r.complete(time.Minute)
		r.end()
		if len(refused) != 2 || refused[1].Sub(refused[0]) < firstPause || r.up.Stats().DeadLetters != 1 {
			t.Errorf("refused at %v, stats %+v", refused, r.up.Stats())
		}
	})
}

// A receiver that refuses everything does not get rid of everything.
func TestReceiverThatRefusesEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		refuse := true
		r.tr.class = func(Message) Class {
			if refuse {
				return Poison
			}
			return Accepted
		}
		r.log.addAt(tele, 50_000, 0)
		r.start()
		pause(24 * time.Hour)
		if n := r.up.Stats().DeadLetters; n > 300 {
			t.Errorf("%d records were given up in a day", n)
		}
		r.tr.set(func() { refuse = false })
		r.complete(time.Hour)
		r.end()
	})
}

package uplink

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

// The receiver never gets some of what the transport accepts: only end-to-end acks
// notice.
func TestTransportThatLies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		rnd := rand.New(rand.NewPCG(1, 2))
		r.tr.lose = func(Message) bool { return rnd.IntN(5) == 0 }
		r.rx.series[0xe1] = r.log.series // what is lost must not be the definitions
		r.log.add(edgeagent.StreamTelemetry, 100_000)
		r.log.add(edgeagent.StreamAlarm, 10)
		r.start()
		r.complete(24 * time.Hour)
		if s := r.up.Stats(); s.Resent.Records == 0 || s.Unconfirmed.Messages != 0 {
			t.Errorf("stats %+v", s)
		}
		r.end()
	})
}

// The receiver lost the definitions, and asks for them, or does not.
func TestLostSeries(t *testing.T) {
	t.Run("on request", func(t *testing.T) { testLostSeries(t, true, 15*time.Second) })
	t.Run("without", func(t *testing.T) { testLostSeries(t, false, time.Hour) })
}

func testLostSeries(t *testing.T, asks bool, within time.Duration) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.cfg.ConfirmTimeout = 10 * time.Second
		r.rx.onAck = func(a edgeagent.Ack) edgeagent.Ack {
			if !asks {
				a.Need = edgeagent.Need{}
			}
			return a
		}
		first := true
		r.tr.lose = func(m Message) bool { lost := first && m.Lane == LaneLive; first = first && !lost; return lost }
		r.log.add(edgeagent.StreamTelemetry, 10)
		r.start()
		pause(time.Second)
		r.log.add(edgeagent.StreamTelemetry, 10) // needs ids 11 to 20, the receiver lacks all
		r.complete(within)
		if len(r.rx.problems()) == 0 {
			t.Error("the test did not test: the receiver never lacked a series")
		}
		r.rx.errs = nil
		r.end()
	})
}

func TestSeriesComeInEachSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.log.add(edgeagent.StreamTelemetry, 100)
		r.start()
		for range 3 {
			r.complete(time.Minute)
			r.tr.kill()
			pause(time.Minute)
			r.log.add(edgeagent.StreamTelemetry, 1)
		}
		r.complete(time.Minute)
		r.end()
		for _, a := range r.rx.arrivals() {
			if !strings.HasPrefix(a.payload, "S ") {
				t.Errorf("the first message of a session is %.40q, want definitions first", a.payload)
			}
		}
	})
}

// A link that takes no messages and does not end by itself is ended.
func TestSendThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.takes = func(m Message) error {
			if m.ID == 3 && r.tr.sessions < 3 {
				return errors.New("no buffer space")
			}
			return nil
		}
		r.log.add(edgeagent.StreamTelemetry, 100_000)
		r.start()
		pause(time.Second)
		if s := r.up.Stats(); !strings.Contains(s.LastError, "no buffer space") {
			t.Errorf("last error %q", s.LastError)
		}
		r.complete(time.Minute)
		r.end()
	})
}

func TestManySeriesGoAhead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.log.series, r.log.perSeries = 10_000, 100
		r.log.add(edgeagent.StreamTelemetry, 20_000)
		r.start()
		r.complete(time.Minute)
		s := r.up.Stats()
		r.end()
		if over := s.Sent.Bytes - 20_000*recordBytes; over > 3*10_000*100 {
			t.Errorf("%d bytes of definitions were sent, want about 1 MB", over)
		}
	})
}

func TestReceiverThatIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.tr.ackEvery = 0
		r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, 0)
		r.start()
		pause(time.Minute)
		s, h := r.up.Stats(), r.up.Health()
		if s.Unconfirmed.Messages > maxAccepted || s.Unconfirmed.Bytes > maxAcceptedBytes {
			t.Errorf("accepted and unconfirmed: %+v", s.Unconfirmed)
		}
		if h.Code != "uplink-receiver-silent" || h.Hint == "" {
			t.Errorf("health %+v", h)
		}
		r.log.add(edgeagent.StreamAlarm, 1)
		r.log.add(edgeagent.StreamEvent, 1)
		r.log.add(edgeagent.StreamTelemetry, 1)
		pause(time.Second)
		got := r.rx.arrivals()
		if last := got[len(got)-1]; last.lane != LaneAlarm {
			t.Errorf("the last message is of lane %s, want the alarm", last.lane)
		}
		before := len(got)
		pause(12 * time.Hour)
		if probes := len(r.rx.arrivals()) - before; probes < 3 || probes > 30 {
			t.Errorf("%d probes in 12 h", probes)
		}
		if r.log.unconfirmed() != 1_000_003 {
			t.Error("something was confirmed without an acknowledgement")
		}
		r.tr.set(func() { r.tr.ackEvery = 200 * time.Millisecond })
		r.tr.kill()
		r.complete(24 * time.Hour)
		r.end()
	})
}

// The receiver and the server lost everything that was accepted, so nobody has a
// reason to say anything: a probe gets it going.
func TestReceiverThatLostEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		lose := true
		r.tr.lose = func(Message) bool { return lose }
		r.rx.series[0xe1] = r.log.series
		r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, 0)
		r.start()
		pause(10 * time.Minute)
		if r.log.unconfirmed() != 1_000_000 {
			t.Fatal("the test did not test")
		}
		r.tr.set(func() { lose = false })
		r.complete(24 * time.Hour)
		r.end()
	})
}

func TestAcksThatAreNotOurs(t *testing.T) {
	for name, change := range map[string]func(edgeagent.Ack) edgeagent.Ack{
		"another receiver": func(a edgeagent.Ack) edgeagent.Ack { a.By = "other"; return a },
		"another epoch":    func(a edgeagent.Ack) edgeagent.Ack { a.Epoch = 0xffff; return a },
		"beyond the end": func(a edgeagent.Ack) edgeagent.Ack {
			a.Have[edgeagent.StreamTelemetry] = edgeagent.Ranges{{From: 1, To: 1001}}
			return a
		},
		"top beyond the end": func(a edgeagent.Ack) edgeagent.Ack {
			a.Top = map[edgeagent.Stream]edgeagent.Top{edgeagent.StreamTelemetry: {Seq: 1001}}
			return a
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, e2eConfig())
				r.rx.onAck = change
				r.log.add(edgeagent.StreamTelemetry, 1000)
				r.start()
				pause(time.Minute)
				s := r.up.Stats()
				if r.log.unconfirmed() != 1000 || s.AcksIgnored == 0 || s.Acks != 0 {
					t.Errorf("%d unconfirmed, stats %+v", r.log.unconfirmed(), s)
				}
				if h := r.up.Health(); strings.Contains(name, "beyond") != (h.Code == "uplink-rewind") {
					t.Errorf("health %+v", h)
				}
				r.end()
			})
		})
	}
}

// The buffer was put back to an older state: the receiver holds numbers of this run
// that were never sent, from its other life. They are not confirmed before they are
// sent.
func TestHeldBeforeSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.log.add(edgeagent.StreamTelemetry, 1000)
		r.rx.onAck = func(a edgeagent.Ack) edgeagent.Ack {
			_, next := r.log.Cursor(edgeagent.StreamTelemetry).Head()
			a.Have[edgeagent.StreamTelemetry] = edgeagent.Ranges{{From: 1, To: next - 1}}
			return a
		}
		r.start()
		r.log.addAt(edgeagent.StreamTelemetry, 100_000, 0)
		r.log.add(edgeagent.StreamTelemetry, 10)
		pause(10 * time.Minute)
		if n := r.log.unconfirmed(); n > 0 {
			t.Errorf("%d unconfirmed", n)
		}
		p := place{r.log.newest(), edgeagent.StreamTelemetry}
		if sent := (edgeagent.Range{From: 1001, To: 101_010}); !r.rx.holds(p, sent) {
			t.Error("records of this run were confirmed and never sent")
		}
		r.end()
	})
}

// A conflict proves that what the receiver holds under our numbers is not ours.
// From then on nothing it says of the epoch is believed.
func TestConflictConfirmsNothing(t *testing.T) {
	for name, prove := range map[string]func(*edgeagent.Ack){
		"conflict": func(a *edgeagent.Ack) {
			a.Conflict = []edgeagent.Conflict{{Stream: edgeagent.StreamTelemetry, From: 1, To: 10, Run: 1}}
		},
		"run of the top": func(a *edgeagent.Ack) {
			a.Top = map[edgeagent.Stream]edgeagent.Top{edgeagent.StreamTelemetry: {Seq: 900, Run: 0xbad}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, e2eConfig())
				first := true
				r.rx.onAck = func(a edgeagent.Ack) edgeagent.Ack {
					if first {
						prove(&a)
					}
					first = false
					return a
				}
				r.start()
				r.log.add(edgeagent.StreamTelemetry, 1000)
				pause(time.Hour)
				if n := r.log.unconfirmed(); n != 1000 {
					t.Errorf("%d unconfirmed", n)
				}
				if h := r.up.Health(); h.Level != edgeagent.Failed || h.Code != "uplink-rewind" {
					t.Errorf("health %+v", h)
				}
				r.end()
				if first {
					t.Error("the test did not test: no ack came")
				}
			})
		})
	}
}

func TestUnsortedAck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.rx.onAck = func(a edgeagent.Ack) edgeagent.Ack {
			if len(a.Have[edgeagent.StreamTelemetry]) > 0 {
				a.Have[edgeagent.StreamTelemetry] = edgeagent.Ranges{{From: 500, To: 1000}, {From: 1, To: 300}, {From: 200, To: 600}}
			}
			return a
		}
		r.log.add(edgeagent.StreamTelemetry, 1000)
		r.start()
		r.complete(time.Minute)
		r.end()
	})
}

package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
)

// rig is an uplink between a log and a receiver, inside a bubble.
type rig struct {
	t   *testing.T
	log *memLog
	rx  *receiver
	tr  *fakeTransport
	up  *Uplink
	cfg Config
	o   Options

	stop context.CancelFunc
	done chan error
}

func blockConfig() Config {
	return Config{Name: "hub", Links: []LinkConfig{{URL: "mqtt://hub"}}, Format: FormatBlock, Ack: AckTransport}
}

func e2eConfig() Config {
	c := blockConfig()
	c.Ack, c.Receiver = AckEndToEnd, DefaultReceiver
	return c
}

func newRig(t *testing.T, cfg Config) *rig {
	r := &rig{t: t, log: newLog(), rx: newReceiver(), cfg: cfg, o: Options{Seed: 1}}
	r.tr = &fakeTransport{to: r.rx, delay: 5 * time.Millisecond}
	if cfg.Ack == AckEndToEnd {
		r.tr.ackEvery = 200 * time.Millisecond
	}
	r.log.onAck = func(p place, x edgeagent.Range) {
		if !r.rx.holds(p, x) {
			t.Errorf("confirmed %s %d to %d, which the receiver does not hold", p.stream, x.From, x.To)
		}
	}
	return r
}

func (r *rig) start() *rig {
	up, err := New(r.cfg, r.log, r.tr, r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	r.up, r.stop, r.done = up, cancel, make(chan error, 1)
	go func() { r.done <- up.Run(ctx) }()
	return r
}

// end stops the uplink and checks what must always hold.
func (r *rig) end() {
	r.t.Helper()
	began := time.Now()
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		r.t.Errorf("shutdown took %v", d)
	}
	if r.tr.most > 1 {
		r.t.Errorf("%d sessions at once", r.tr.most)
	}
	for _, p := range r.rx.problems() {
		r.t.Error("receiver:", p)
	}
	if s := r.up.Stats(); s.State != Stopped || s.InFlight != 0 {
		r.t.Errorf("after Run: state %s, %d in flight", s.State, s.InFlight)
	}
}

// complete waits until everything is confirmed, at most d.
func (r *rig) complete(d time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	if err := r.up.Flush(ctx); err != nil {
		r.t.Fatalf("%v; %d unconfirmed; stats %+v", err, r.log.unconfirmed(), r.up.Stats())
	}
	if n := r.log.unconfirmed(); n != 0 {
		r.t.Errorf("%d records are unconfirmed after Flush", n)
	}
}

func pause(d time.Duration) { <-time.After(d) }

func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestDelivers(t *testing.T) {
	for _, cfg := range []Config{blockConfig(), e2eConfig()} {
		t.Run(string(cfg.Ack), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, cfg)
				r.log.add(edgeagent.StreamTelemetry, 100_000)
				r.log.add(edgeagent.StreamAlarm, 10)
				r.log.add(edgeagent.StreamRollup, 1000)
				r.log.begin(0xe2)
				r.log.add(edgeagent.StreamTelemetry, 50_000)
				r.log.add(edgeagent.StreamEvent, 100)
				r.start()
				r.complete(time.Minute)
				r.log.add(edgeagent.StreamTelemetry, 7)
				r.complete(time.Minute)
				s := r.up.Stats()
				if s.State != Up || s.Connects != 1 || s.Resent.Records != 0 || s.Confirmed.Records != 151_117 {
					t.Errorf("stats %+v", s)
				}
				if h := r.up.Health(); h.Level != edgeagent.OK {
					t.Errorf("health %+v", h)
				}
				r.end()
				if r.rx.twice != 0 {
					t.Errorf("%d records came twice without a fault", r.rx.twice)
				}
			})
		})
	}
}

// F4: a server that takes everything and acknowledges nothing confirms nothing.
func TestServerThatNeverAcks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		silent := true
		r.log.add(edgeagent.StreamTelemetry, 100_000)
		r.log.onAck = func(p place, x edgeagent.Range) {
			if silent {
				t.Errorf("confirmed %v of %v", x, p)
			}
		}
		r.tr.silent = func(Message) bool { return silent }
		r.start()
		pause(10 * time.Minute)
		s := r.up.Stats()
		if s.Connects < 3 || s.Connects > 30 {
			t.Errorf("%d sessions in 10 min, want one for each ack timeout and back-off", s.Connects)
		}
		if s.Accepted.Messages+s.Confirmed.Messages != 0 || s.Resent.Messages == 0 || s.LastError == "" {
			t.Errorf("stats %+v", s)
		}
		r.log.mu.Lock()
		r.tr.set(func() { silent = false }) // the server is mended
		r.log.mu.Unlock()
		r.complete(10 * time.Minute)
		r.end()
	})
}

func TestStartsWithTheServerDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		down := true
		r.tr.refuse = func(int) error {
			if down {
				return errors.New("connection refused")
			}
			return nil
		}
		r.log.add(edgeagent.StreamTelemetry, 1000)
		r.start()
		pause(14 * 24 * time.Hour)
		s, h := r.up.Stats(), r.up.Health()
		if s.State == Up || h.Level != edgeagent.Degraded || h.Code != "uplink-down" || !strings.Contains(h.Text, "connection refused") {
			t.Errorf("state %s, health %+v", s.State, h)
		}
		if s.State == Backoff && (s.NextRetry.Before(time.Now()) || s.NextRetry.After(time.Now().Add(2*time.Minute))) {
			t.Errorf("next retry in %v", time.Until(s.NextRetry))
		}
		r.tr.set(func() { down = false })
		r.complete(3 * time.Minute)
		if h := r.up.Health(); h.Level != edgeagent.OK {
			t.Errorf("health %+v once it is up", h)
		}
		r.end()
	})
}

func TestRefusedLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.refuse = func(int) error {
			return fmt.Errorf("connect: %w", Refused("bad user name or password", "check destinations[].links[].username"))
		}
		r.start()
		pause(24 * time.Hour)
		if h := r.up.Health(); h.Code != "uplink-refused" || h.Hint != "check destinations[].links[].username" {
			t.Errorf("health %+v", h)
		}
		for i := 1; i < len(r.tr.attempt); i++ {
			if d := r.tr.attempt[i].Sub(r.tr.attempt[i-1]); d < time.Minute || d > time.Hour {
				t.Errorf("attempt %d came after %v, want 1 min to 1 h", i, d)
			}
		}
		r.end()
	})
}

// A session that dies at any message loses nothing and invents nothing.
func TestSessionsThatDie(t *testing.T) {
	for _, cfg := range []Config{blockConfig(), e2eConfig()} {
		t.Run(string(cfg.Ack), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cfg.Reconnect = ReconnectConfig{Base: 10 * time.Millisecond, Cap: 20 * time.Millisecond}
				r := newRig(t, cfg)
				rnd := rand.New(rand.NewPCG(1, 2))
				r.tr.reorder = rnd
				r.tr.dieAfter = func(int) int { return 1 + rnd.IntN(20) }
				r.start()
				for i := range 300 {
					r.log.add(edgeagent.StreamTelemetry, 200+i)
					if i%7 == 0 {
						r.log.add(edgeagent.StreamAlarm, 1)
						r.log.add(edgeagent.StreamEvent, 3)
					}
					if i == 150 {
						r.log.begin(0xe2)
					}
					pause(50 * time.Millisecond)
				}
				r.complete(time.Hour)
				s := r.up.Stats()
				if s.Connects < 10 || s.Resent.Records == 0 {
					t.Errorf("the test did not test: %d sessions, %d resent", s.Connects, s.Resent.Records)
				}
				r.end()
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, class := range []Class{NoReceiver, Throttled, ConfigError, Poison, Unknown} {
		t.Run(class.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, blockConfig())
				until := time.Now().Add(7 * time.Minute)
				r.tr.class = func(m Message) Class {
					if m.Lane == LaneBacklog && time.Now().Before(until) {
						return class
					}
					return Accepted
				}
				r.log.addAt(edgeagent.StreamTelemetry, 5000, 0)
				r.log.add(edgeagent.StreamAlarm, 1)
				r.start()
				pause(time.Minute)
				if n := r.log.Cursor(edgeagent.StreamAlarm).Unconfirmed(); n != 0 {
					t.Error("the alarm waits for the backlog")
				}
				if n := r.log.Cursor(edgeagent.StreamTelemetry).Unconfirmed(); n != 5000 {
					t.Errorf("%d readings are unconfirmed, want all", n)
				}
				if n := r.up.Stats().Sent.Messages; n > 1000 {
					t.Errorf("%d messages in a minute: no pause", n)
				}
				if h := r.up.Health(); class != Unknown && h.Code != "uplink-paused" {
					t.Errorf("health %+v", h)
				}
				r.complete(time.Hour)
				r.end()
			})
		})
	}
}

// A server that refuses a message and hangs up then: health tells the refusal, which
// says what to mend.
func TestRefusalBeforeTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.class = func(Message) Class {
			time.AfterFunc(100*time.Millisecond, r.tr.kill)
			return ConfigError
		}
		r.log.addAt(edgeagent.StreamTelemetry, 100, 0)
		r.start()
		pause(3 * time.Second)
		h := r.up.Health()
		if s := r.up.Stats(); s.Failures == 0 {
			t.Fatalf("no session ended: %+v", s)
		}
		if h.Code != "uplink-down" || !strings.Contains(h.Text, ConfigError.String()) || !strings.Contains(h.Text, errDied.Error()) {
			t.Errorf("health %+v", h)
		}
		r.end()
	})
}

// A server whose limit is lower than ours says poison: smaller messages pass.
func TestLearnsTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.class = func(m Message) Class {
			if len(m.Payload) > 3000 {
				return Poison
			}
			return Accepted
		}
		r.log.addAt(edgeagent.StreamTelemetry, 50_000, 0)
		r.start()
		r.complete(time.Minute)
		r.end()
	})
}

func TestLateLiveBecomesBacklog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.rate = 2_000
		r.start()
		for range 300 { // 10 kB/s of live
			r.log.add(edgeagent.StreamTelemetry, 1000)
			pause(time.Second)
		}
		lanes := map[Lane]int{}
		for _, a := range r.rx.arrivals() {
			lanes[a.lane]++
			if age := a.at.Sub(time.Unix(0, a.head.MinTime)); a.lane == LaneLive && age > 65*time.Second {
				t.Errorf("live reading %d is %v old", a.head.First, age)
			}
		}
		if lanes[LaneLive] == 0 || lanes[LaneBacklog] == 0 {
			t.Errorf("messages by lane: %v", lanes)
		}
		r.tr.set(func() { r.tr.rate = 0 })
		r.complete(time.Hour)
		r.end()
		if r.rx.twice > 0 {
			t.Errorf("%d records came twice without a fault", r.rx.twice)
		}
	})
}

// Readings whose source gives the time may be years old and still be new.
func TestRecordedTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig()).start()
		for range 100 {
			r.log.addAt(edgeagent.StreamTelemetry, 10, 1e18)
			pause(time.Second)
		}
		pause(time.Second)
		if n := r.log.unconfirmed(); n != 0 {
			t.Errorf("%d unconfirmed", n)
		}
		r.end()
	})
}

func TestOneBadStreamDoesNotStopTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.log.failAt = map[edgeagent.Stream]error{edgeagent.StreamTelemetry: errors.New("block is damaged")}
		r.log.add(edgeagent.StreamTelemetry, 100)
		r.log.add(edgeagent.StreamAlarm, 1)
		r.start()
		pause(time.Minute)
		if n := r.log.unconfirmed(); n != 100 {
			t.Errorf("%d unconfirmed, want the 100 readings", n)
		}
		if h := r.up.Health(); h.Code != "uplink-paused" || !strings.Contains(h.Text, "damaged") {
			t.Errorf("health %+v", h)
		}
		r.log.mu.Lock()
		r.log.failAt = nil
		r.log.mu.Unlock()
		r.complete(10 * time.Minute)
		r.end()
	})
}

func TestLogThatTakesNoAcks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		broken := true
		r.log.failAck = func() error {
			if broken {
				return errors.New("disk is read-only")
			}
			return nil
		}
		r.log.add(edgeagent.StreamTelemetry, 50_000)
		r.start()
		pause(time.Minute)
		if h := r.up.Health(); h.Code != "uplink-confirm" {
			t.Errorf("health %+v", h)
		}
		r.tr.kill() // what was accepted is not sent again, though the log does not know
		pause(10 * time.Second)
		r.log.mu.Lock()
		broken = false
		r.log.mu.Unlock()
		r.complete(2 * time.Minute)
		if r.rx.twice != 0 {
			t.Errorf("%d records were sent twice", r.rx.twice)
		}
		r.end()
	})
}

func TestShutdown(t *testing.T) {
	t.Run("sends alarms, leaves the backlog", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, blockConfig())
			r.tr.rate = 10_000
			r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, 0)
			r.start()
			pause(10 * time.Second)
			r.log.add(edgeagent.StreamAlarm, 3)
			r.log.add(edgeagent.StreamEvent, 3)
			r.end()
			if a, e := r.log.Cursor(edgeagent.StreamAlarm).Unconfirmed(), r.log.Cursor(edgeagent.StreamEvent).Unconfirmed(); a+e != 0 {
				t.Errorf("%d alarms and %d events were left", a, e)
			}
			if r.tr.goodbyes != 1 {
				t.Error("no goodbye")
			}
		})
	})
	t.Run("does not wait for a dead link", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, blockConfig())
			r.tr.stuck = true
			r.log.add(edgeagent.StreamAlarm, 1)
			r.start()
			pause(time.Second)
			r.end()
		})
	})
	t.Run("during back-off and while connecting", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, blockConfig())
			r.tr.refuse = func(int) error { return errDied }
			r.start()
			pause(time.Hour + 17*time.Second)
			began := time.Now()
			r.end()
			if time.Since(began) > time.Second {
				t.Errorf("took %v", time.Since(began))
			}
		})
	})
}

func TestRunTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig()).start()
		pause(time.Second)
		if err := r.up.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
		r.end()
	})
}

func TestServerLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.caps = Caps{MaxInFlight: 3, MaxMessage: 2000}
		r.tr.delay = 50 * time.Millisecond
		r.log.add(edgeagent.StreamTelemetry, 20_000)
		r.start()
		r.complete(time.Hour)
		r.end()
		if r.tr.mostOut > 3 {
			t.Errorf("%d messages in flight, the server allows 3", r.tr.mostOut)
		}
		for _, a := range r.rx.arrivals() {
			if a.size > 2000 {
				t.Fatalf("a message of %d bytes, the server allows 2000", a.size)
			}
		}
	})
}

func TestNew(t *testing.T) {
	if _, err := New(Config{}, newLog(), &fakeTransport{}, Options{}); err == nil {
		t.Error("an empty configuration is taken")
	}
	c := blockConfig()
	c.Format = FormatJSON
	if _, err := New(c, newLog(), &fakeTransport{}, Options{}); err == nil || !strings.Contains(err.Error(), "format is json") {
		t.Errorf("no encoder for json: %v", err)
	}
	u, err := New(blockConfig(), newLog(), &fakeTransport{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s := u.Stats(); s.State != Stopped || s.Link != "fake://link" {
		t.Errorf("stats %+v before Run", s)
	}
}

// Sessions that come up and end soon, over and over, are what a second client with
// the same id looks like.
func TestSessionsThatDoNotLast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig()).start()
		fight := func(n int) {
			for range n {
				waitUp(t, r)
				pause(time.Second)
				r.tr.kill()
				pause(time.Millisecond)
			}
		}
		fight(2)
		waitUp(t, r)
		if h := r.up.Health(); h.Level != edgeagent.OK {
			t.Errorf("after two: health %+v", h)
		}
		fight(1)
		if h := r.up.Health(); h.Code != "uplink-down" || !strings.Contains(h.Hint, "client_id") {
			t.Errorf("between sessions: health %+v", h)
		}
		waitUp(t, r)
		if h := r.up.Health(); h.Code != "uplink-unstable" || !strings.Contains(h.Hint, "client_id") {
			t.Errorf("in the fourth session: health %+v", h)
		}
		pause(5 * time.Minute)
		if h := r.up.Health(); h.Level != edgeagent.OK {
			t.Errorf("after a session that lasts: health %+v", h)
		}
		r.end()
	})
}

func waitUp(t *testing.T, r *rig) {
	t.Helper()
	for range 10_000 {
		if r.up.Stats().State == Up {
			return
		}
		pause(100 * time.Millisecond)
	}
	t.Fatal("never up")
}

// Servers that end the session for a message over their limit, and links that do not
// last for a large one: neither may stop the data for ever.
func TestSessionsThatEndOverLargeMessages(t *testing.T) {
	for name, limit := range map[string]int{"3000 bytes": 3000, "2500 bytes": 2500} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, blockConfig())
				r.tr.takes = func(m Message) error {
					if len(m.Payload) > limit {
						return errors.New("connection reset by peer")
					}
					return nil
				}
				r.log.add(edgeagent.StreamTelemetry, 50_000)
				r.start()
				r.complete(time.Hour)
				if n := r.up.Stats().Failures; n > 30 {
					t.Errorf("%d sessions failed", n)
				}
				r.end()
			})
		})
	}
}

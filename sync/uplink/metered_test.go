package uplink

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// The virtual clock of a bubble begins at midnight UTC on 1 January 2000.

// F13: what the month allows is not exceeded, and what is scarce goes to what matters.
func TestF13Quota(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const limit = 2 << 20
		cfg := e2eConfig()
		cfg.Quota = QuotaConfig{Limit: limit, Timezone: "UTC"}
		r := newRig(t, cfg)
		r.tr.ackEvery = 10 * time.Second
		memory := &paper{}
		r.o.Memory, r.o.Wire = memory, r.tr.onWire
		r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, 0) // 10 MB
		r.start()
		pause(time.Hour)
		s := r.up.Stats()
		if s.QuotaUsed < limit*79/100 || s.QuotaUsed > limit*81/100 {
			t.Errorf("backlog has used %.1f %% of the quota, want 80", 100*float64(s.QuotaUsed)/limit)
		}
		if h := r.up.Health(); h.Code != "uplink-quota" || !strings.Contains(h.Text, "backlog waits until 1 Feb") {
			t.Errorf("health %+v", h)
		}
		alarms := 0
		for range 20 * 24 * 6 { // live readings every ten minutes, 20 days
			r.log.add(edgeagent.StreamTelemetry, 20)
			if alarms++; alarms%60 == 0 {
				r.log.add(edgeagent.StreamAlarm, 1)
			}
			pause(10 * time.Minute)
		}
		if n := r.log.Cursor(edgeagent.StreamAlarm).Unconfirmed(); n > 0 {
			t.Errorf("%d alarms wait for the next month; %d %% used", n, r.up.Stats().QuotaUsed*100/limit)
		}
		if s := r.up.Stats(); s.State != Waiting || s.QuotaUsed < limit*95/100 {
			t.Errorf("state %s, %.1f %% used, want a link on demand", s.State, 100*float64(s.QuotaUsed)/limit)
		}
		for range 5000 { // more alarms than there is room for
			r.log.add(edgeagent.StreamAlarm, 1)
			pause(time.Minute)
		}
		if got := r.tr.onWire(); got > limit*102/100 {
			t.Errorf("%d bytes went over the wire, %.1f %% of the quota", got, 100*float64(got)/limit)
		}
		used := r.up.Stats().QuotaUsed
		r.end()
		var k kept
		if err := json.Unmarshal(memory.data, &k); err != nil || k.Quota.Used != used {
			t.Errorf("memory holds %s, %v, want %d", memory.data, err, used)
		}
		if memory.saves > 300 {
			t.Errorf("memory was written %d times", memory.saves)
		}

		r.start() // it remembers
		pause(time.Minute)
		if s := r.up.Stats(); s.QuotaUsed < used || s.State == Up {
			t.Errorf("after a restart: state %s, %d used, want %d", s.State, s.QuotaUsed, used)
		}
		pause(12 * 24 * time.Hour) // February
		if s := r.up.Stats(); s.Connects == 0 || s.QuotaUsed > limit {
			t.Errorf("in the next month: %+v", s)
		}
		if n := r.log.Cursor(edgeagent.StreamAlarm).Unconfirmed(); n > 0 {
			t.Errorf("%d alarms are unconfirmed in the next month", n)
		}
		r.end()
	})
}

// F13: outside of its times the link is down; alarms open it, or wait.
func TestF13ConnectTimes(t *testing.T) {
	for _, alarms := range []AlarmsOpen{AlarmsOpenLink, AlarmsWait} {
		t.Run(string(alarms), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cfg := e2eConfig()
				cfg.Connect = ConnectConfig{Times: []string{"02:00-03:00"}, Timezone: "UTC", Alarms: alarms}
				r := newRig(t, cfg).start()
				midnight := time.Now()
				for range 3 * 24 * 60 {
					r.log.add(edgeagent.StreamTelemetry, 10)
					if now := time.Now(); now.Hour() == 12 && now.Minute() == 0 {
						r.log.add(edgeagent.StreamAlarm, 1)
					}
					pause(time.Minute)
				}
				if s := r.up.Stats(); s.State != Waiting || s.NextRetry.Sub(midnight) != 74*time.Hour {
					t.Errorf("state %s until %v", s.State, s.NextRetry)
				}
				if h := r.up.Health(); h.Level != edgeagent.OK {
					t.Errorf("health %+v", h)
				}
				pause(3 * time.Hour)
				if n := r.log.unconfirmed(); n > 0 {
					t.Errorf("%d are unconfirmed after the link was up", n)
				}
				for _, a := range r.rx.arrivals() {
					inside := a.at.Hour() == 2
					atNoon := a.at.Hour() == 12 && (a.lane == LaneAlarm || a.head.Count == 0)
					if !inside && (!atNoon || alarms != AlarmsOpenLink) {
						t.Fatalf("%s %d came at %v", a.lane, a.head.First, a.at)
					}
				}
				late := slices.ContainsFunc(r.rx.arrivals(), func(a arrival) bool { return a.lane == LaneAlarm && a.at.Hour() == 2 })
				if late != (alarms == AlarmsWait) {
					t.Errorf("alarms waited: %v", late)
				}
				for i, up := range r.tr.ups {
					if offset := up.Sub(up.Truncate(time.Hour)); up.Hour() == 2 && offset > 5*time.Second {
						t.Errorf("session %d began %v after the link was allowed", i, offset)
					}
				}
				r.end()
			})
		})
	}
}

// A clock that cannot be trusted does not know the time of day: the link is up, for it
// may be what the time comes from.
type lateClock struct {
	clock.Clock
	synced atomic.Bool
}

func (c *lateClock) Synced() bool { return c.synced.Load() }

func TestConnectTimesNeedAClock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := blockConfig()
		cfg.Connect = ConnectConfig{Times: []string{"02:00-03:00"}, Timezone: "UTC"}
		r := newRig(t, cfg)
		c := &lateClock{Clock: clock.Go()}
		r.o.Clock = c
		r.log.add(edgeagent.StreamTelemetry, 10)
		r.start()
		r.complete(time.Minute)
		c.synced.Store(true)
		pause(2 * time.Minute)
		if s := r.up.Stats(); s.State != Waiting {
			t.Errorf("state %s at midnight, once the clock is right", s.State)
		}
		r.end()
	})
}

// The bucket bounds what goes over the wire, live readings and alarms do not wait
// behind backlog, and all of the rate is used.
func TestF13Rate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := blockConfig()
		cfg.Rate, cfg.Burst = 8_000, 32_000
		r := newRig(t, cfg)
		r.o.Wire = r.tr.onWire
		r.tr.delay = 50 * time.Millisecond
		r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, 0)
		r.start()
		began := time.Now()
		var alarms []time.Time
		for range 300 {
			alarms = append(alarms, time.Now())
			r.log.add(edgeagent.StreamAlarm, 1)
			r.log.add(edgeagent.StreamTelemetry, 50)
			pause(time.Second)
		}
		spent := time.Since(began).Seconds()
		if got, most := float64(r.tr.onWire()), (spent*8_000+32_000)*1.02; got > most || got < 0.97*spent*8_000 {
			t.Errorf("%.0f bytes went in %v s, want at most %.0f and nearly all", got, spent, most)
		}
		r.end()
		for _, a := range r.rx.arrivals() {
			if a.lane == LaneAlarm {
				if wait := a.at.Sub(alarms[a.head.First-1]); wait > 200*time.Millisecond {
					t.Errorf("alarm %d waited %v", a.head.First, wait)
				}
			}
			if wait := a.at.Sub(time.Unix(0, a.head.MinTime)); a.lane == LaneLive && wait > 1600*time.Millisecond {
				t.Errorf("live reading %d waited %v", a.head.First, wait)
			}
		}
	})
}

// A server may ask for patience: alarms are sent all the same.
func TestServerHint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		until := time.Now().Add(2 * time.Hour)
		text, err := json.Marshal(Hint{PauseUntil: until})
		if err != nil {
			t.Fatal(err)
		}
		r.tr.hint = text
		r.start()
		pause(time.Minute)
		for range 60 {
			r.log.add(edgeagent.StreamTelemetry, 10)
			pause(time.Minute)
		}
		r.log.add(edgeagent.StreamAlarm, 1)
		pause(10 * time.Second)
		if n := r.log.Cursor(edgeagent.StreamAlarm).Unconfirmed(); n > 0 {
			t.Error("the alarm waits")
		}
		if s := r.up.Stats(); s.State != Waiting || !s.NextRetry.Round(time.Second).Equal(until.Round(time.Second)) || r.log.unconfirmed() != 600 {
			t.Errorf("%d unconfirmed, stats %+v", r.log.unconfirmed(), s)
		}
		r.tr.set(func() { r.tr.hint = []byte{} })
		r.complete(2 * time.Hour)
		r.end()
	})
}

func TestNoSubscriberAccept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := blockConfig()
		cfg.NoSubscriber = AcceptAnyway
		r := newRig(t, cfg)
		r.log.onAck = nil // nobody holds it, as was asked for
		r.tr.class = func(Message) Class { return NoReceiver }
		r.log.add(edgeagent.StreamTelemetry, 1000)
		r.start()
		r.complete(time.Minute)
		if s := r.up.Stats(); s.Unheard == 0 || s.Resent.Messages != 0 {
			t.Errorf("stats %+v", s)
		}
		r.end()
	})
}

// The hub comes up a moment after the agent: nobody is told of it, and nothing waits for
// long.
func TestNoSubscriberYet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		up := time.Now().Add(3 * time.Second)
		r.tr.class = func(Message) Class {
			if time.Now().Before(up) {
				return NoReceiver
			}
			return Accepted
		}
		r.log.add(edgeagent.StreamTelemetry, 10)
		r.start()
		pause(2 * time.Second)
		if h := r.up.Health(); h.Level != edgeagent.OK {
			t.Errorf("health %+v", h)
		}
		r.complete(6 * time.Second)
		r.end()
	})
}

func TestAckReasonNeedsCodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := blockConfig()
		cfg.Ack = AckReason
		r := newRig(t, cfg)
		r.log.add(edgeagent.StreamTelemetry, 10)
		r.start()
		pause(time.Minute)
		if h := r.up.Health(); h.Code != "uplink-refused" || !strings.Contains(h.Hint, "MQTT 5") {
			t.Errorf("health %+v", h)
		}
		if n := len(r.rx.arrivals()); n > 0 {
			t.Errorf("%d messages were sent", n)
		}
		r.tr.set(func() { r.tr.caps.ReasonCodes = true })
		r.complete(3 * time.Hour)
		r.end()
	})
}

// Newest first: what an outage has left comes from its end.
func TestOrderNewest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := e2eConfig()
		cfg.Order = NewestFirst
		r := newRig(t, cfg)
		r.tr.reorder = nil
		r.log.addAt(edgeagent.StreamTelemetry, 10_000, 0)
		r.log.begin(0xe2)
		r.log.addAt(edgeagent.StreamTelemetry, 100_000, 0)
		r.tr.dieAfter = func(n int) int { return []int{0, 7, 11, 0}[min(n, 3)] }
		r.start()
		r.complete(time.Hour)
		var firsts []edgeagent.Seq
		older := false
		for _, a := range r.rx.arrivals() {
			switch {
			case a.lane != LaneBacklog || a.head.Count == 0:
			case a.head.Epoch == 0xe1:
				older = true
			case older:
				t.Fatal("the newest epoch came after the older one")
			default:
				firsts = append(firsts, a.head.First)
			}
		}
		if firsts[0] < 100_000-2*newestPart {
			t.Errorf("backlog begins with %d", firsts[0])
		}
		for i, n := range firsts[1:] {
			if n > firsts[i]+newestPart {
				t.Errorf("%d comes after %d", n, firsts[i])
			}
		}
		r.end()
	})
}

// Some links count, as TCP does, and another does not: neither is free.
func TestLinkThatNobodyCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := blockConfig()
		cfg.Quota = QuotaConfig{Limit: 1 << 20, Timezone: "UTC"}
		r := newRig(t, cfg)
		r.o.Wire = func() uint64 { return 0 }
		r.log.add(edgeagent.StreamTelemetry, 10_000)
		r.start()
		r.complete(time.Minute)
		if s := r.up.Stats(); s.QuotaUsed < 100_000 || s.WireBytes != uint64(s.QuotaUsed) {
			t.Errorf("100 kB cost %d of the quota, %d bytes on the wire", s.QuotaUsed, s.WireBytes)
		}
		r.end()
	})
}

// Readings of a text destination wait for the clock, and come with the right times;
// alarms do not wait.
func TestF15HoldsUntilTheClockIsRight(t *testing.T) {
	for _, never := range []bool{false, true} {
		t.Run(fmt.Sprint("never right ", never), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, _ := textRig(t, func(edgeagent.Seq) int { return 100 })
				began := time.Now()
				var wrong atomic.Bool
				wrong.Store(true)
				r.log.unsynced = wrong.Load
				r.o.Hold = func(h edgeagent.BatchHeader) bool {
					return h.Unsynced && wrong.Load() && time.Since(began) < 15*time.Minute
				}
				r.log.addAt(edgeagent.StreamTelemetry, 5000, 0)
				r.start()
				for range 5 * 60 {
					r.log.addAt(edgeagent.StreamTelemetry, 5, int64(time.Since(began)))
					pause(time.Second)
				}
				r.log.add(edgeagent.StreamAlarm, 1)
				pause(time.Second)
				if n := r.log.Cursor(edgeagent.StreamAlarm).Unconfirmed(); n != 0 {
					t.Error("the alarm waits for the clock")
				}
				if n := r.log.Cursor(edgeagent.StreamTelemetry).Unconfirmed(); n != 6500 {
					t.Errorf("%d readings are unconfirmed, want all 6500", n)
				}
				if !never {
					wrong.Store(false)
					r.complete(10 * time.Second)
				} else {
					r.complete(11 * time.Minute)
				}
				for _, a := range r.rx.arrivals() {
					if a.lane != LaneAlarm && a.head.Unsynced != never {
						t.Fatalf("%s %d came unsynced: %v", a.lane, a.head.First, a.head.Unsynced)
					}
				}
				if r.rx.twice != 0 {
					t.Errorf("%d records came twice", r.rx.twice)
				}
				r.end()
			})
		})
	}
}

// Events alone do not open a link on demand over and over.
func TestEventsOpenTheLinkSeldom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := blockConfig()
		cfg.Quota = QuotaConfig{Limit: 1 << 20, Timezone: "UTC"}
		r := newRig(t, cfg)
		r.o.Memory = &paper{data: []byte(`{"quota":{"from":"2000-01-01T00:00:00Z","used":1001000}}`)} // 95.5 %
		r.start()
		for range 360 {
			r.log.add(edgeagent.StreamEvent, 1)
			pause(10 * time.Second)
		}
		s := r.up.Stats()
		if s.Connects < 3 || s.Connects > 5 {
			t.Errorf("%d sessions in an hour, %d bytes used", s.Connects, s.QuotaUsed)
		}
		r.log.add(edgeagent.StreamAlarm, 1)
		pause(5 * time.Second)
		if n := r.log.Cursor(edgeagent.StreamAlarm).Unconfirmed(); n > 0 {
			t.Error("an alarm waits for its turn")
		}
		r.end()
	})
}

func FuzzHint(f *testing.F) {
	f.Add([]byte(`{"reconnect_spread_s":300,"max_rate_Bps":4000,"pause_until":"2026-11-24T06:00:00Z"}`))
	f.Add([]byte(`{"max_rate_Bps":-1e300}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, err := parseHint(payload)
		if err != nil {
			return
		}
		b := newBudget(blockConfig().WithDefaults())
		b.take(time.Hour, time.Unix(1_795_000_000, 0), h)
		b.look(time.Hour, time.Unix(1_795_000_000, 0), true)
		if s := b.hint.spread(); s < 0 || s > maxHintSpread || b.hint.until > time.Hour+maxHintPause || b.bucket.rate != 0 && b.bucket.rate < leastRate || !b.lanes[LaneAlarm] {
			t.Errorf("%s: %+v", payload, b)
		}
	})
}

func FuzzSpan(f *testing.F) {
	f.Add("mon-fri 22:00-02:00")
	f.Add("sat,sun 00:00-24:00")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSpan(text)
		if err != nil {
			return
		}
		if s.from < 0 || s.from >= dayMinutes || s.to <= s.from || s.to > s.from+dayMinutes || s.days == [7]bool{} {
			t.Errorf("%q: %+v", text, s)
		}
		if _, until := (schedule{[]span{s}, time.UTC}).look(time.Unix(1_795_000_000, 0)); !until.After(time.Unix(1_795_000_000, 0)) {
			t.Errorf("%q: until %v", text, until)
		}
	})
}

func FuzzQuotaState(f *testing.F) {
	f.Add([]byte(`{"quota":{"from":"2026-11-01T00:00:00Z","used":123}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q := newQuota(QuotaConfig{Limit: 1 << 20, Timezone: "UTC"}.withDefaults())
		if q.restore(data) == nil && q.used < 0 {
			t.Errorf("%s: %d", data, q.used)
		}
		q.month(time.Unix(1_795_000_000, 0))
		if !q.to.After(q.from) {
			t.Errorf("%s: %v to %v", data, q.from, q.to)
		}
	})
}

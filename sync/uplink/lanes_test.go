package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

func TestLiveGoesFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, time.Now().Add(-time.Hour).UnixNano())
		r.log.add(edgeagent.StreamTelemetry, 5)
		r.log.add(edgeagent.StreamAlarm, 1)
		r.start()
		r.complete(time.Hour)
		r.end()
		got := r.rx.arrivals()
		if got[0].lane != LaneAlarm {
			t.Errorf("first came lane %s, want the alarm", got[0].lane)
		}
		if got[1].lane != LaneLive || got[1].head.First != 1_000_001 {
			t.Errorf("second came lane %s from %d, want live from 1000001", got[1].lane, got[1].head.First)
		}
		if got[1].at.Sub(r.tr.ups[0]) > 100*time.Millisecond {
			t.Errorf("live came %v after the session was up", got[1].at.Sub(r.tr.ups[0]))
		}
	})
}

func TestLivePaysTheFloor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.rate = 50_000 // bytes/s
		r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, time.Now().Add(-time.Hour).UnixNano())
		r.start()
		var live, backlog int
		for range 600 { // twice as much live as the link carries
			r.log.add(edgeagent.StreamTelemetry, 1000)
			pause(100 * time.Millisecond)
		}
		r.end()
		for _, a := range r.rx.arrivals() {
			switch a.lane {
			case LaneLive:
				live += a.size
			case LaneBacklog:
				backlog += a.size
			case LaneAlarm, LaneEvent:
			}
		}
		share := float64(backlog) / float64(live+backlog)
		if share < 0.08 || share > 0.2 {
			t.Errorf("backlog got %.0f %% of the bytes, want about 10 %%", 100*share)
		}
	})
}

// A backlog that could not go for a while does not take the link for itself afterwards.
func TestPausedBacklogSavesNoShare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.rate = 50_000 // bytes/s
		began := time.Now()
		r.tr.class = func(m Message) Class {
			if m.Lane == LaneBacklog && time.Since(began) < 4*time.Minute {
				return ConfigError // the lane waits for 5 min
			}
			return Accepted
		}
		r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, time.Now().Add(-time.Hour).UnixNano())
		r.start()
		for range 6 * 60 * 10 { // twice as much live as the link carries
			r.log.add(edgeagent.StreamTelemetry, 1000)
			pause(100 * time.Millisecond)
		}
		r.end()
		var live, backlog int
		for _, a := range r.rx.arrivals() {
			switch {
			case a.at.Sub(began) < 5*time.Minute:
			case a.lane == LaneLive:
				live += a.size
			case a.lane == LaneBacklog:
				backlog += a.size
			}
		}
		if share := float64(backlog) / float64(live+backlog); share < 0.08 || share > 0.25 {
			t.Errorf("backlog got %.0f %% of the bytes once it might go, want about 10 %%", 100*share)
		}
	})
}

// Backlog keeps to its own rate, uses all of it, and nothing else is bound by it.
func TestBacklogRate(t *testing.T) {
	for _, tt := range []struct {
		name        string
		rate, total edgeagent.Bytes
	}{
		{"slow", 300, 0},
		{"quick", 20_000, 0},
		{"beside a rate for all", 2_000, 8_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cfg := blockConfig()
				cfg.BacklogRate, cfg.Rate = tt.rate, tt.total
				r := newRig(t, cfg)
				r.tr.delay = 50 * time.Millisecond
				r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, time.Now().Add(-time.Hour).UnixNano())
				r.start()
				began := time.Now()
				for range 300 {
					r.log.add(edgeagent.StreamAlarm, 1)
					r.log.add(edgeagent.StreamTelemetry, 50)
					pause(time.Second)
				}
				spent := time.Since(began).Seconds()
				r.end()
				sum, largest, bound := 0, 0, float64(tt.rate)
				for _, a := range r.rx.arrivals() {
					cost := a.size + perMessage
					late := a.at.Sub(time.Unix(0, a.head.MinTime))
					switch {
					case a.lane == LaneBacklog:
						sum, largest = sum+cost, max(largest, cost)
						if most := bound*(1+a.at.Sub(began).Seconds()) + float64(largest); float64(sum) > most {
							t.Fatalf("%d bytes of backlog after %v, want at most %.0f", sum, a.at.Sub(began), most)
						}
					case a.head.Count > 0 && late > time.Second:
						t.Errorf("%s %d came after %v", a.lane, a.head.First, late)
					}
				}
				if float64(sum) < 0.95*bound*spent {
					t.Errorf("%d bytes of backlog in %v s, want nearly all of %v a second", sum, spent, tt.rate)
				}
				if most := max(smallestMessage, int(tt.rate)/2) + 2048; largest > most {
					t.Errorf("a message of backlog cost %d bytes, want at most %d, names of series included", largest, most)
				}
			})
		})
	}
}

// Replays go with the backlog, at its rate.
func TestBacklogRateOfReplays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := e2eConfig()
		cfg.BacklogRate = 1000
		r := newRig(t, cfg)
		r.log.add(edgeagent.StreamTelemetry, 10_000)
		r.start()
		r.complete(time.Minute) // live, so nothing of it is bound
		before, began := len(r.rx.arrivals()), time.Now()
		r.rx.loseAll(2001, 6000)
		pause(5 * time.Minute)
		r.end()
		if missing := r.rx.lacks(10_000); len(missing) > 0 {
			t.Errorf("the receiver lacks %v", missing)
		}
		sum, last := 0, began
		for _, a := range r.rx.arrivals()[before:] {
			if a.lane == LaneBacklog {
				sum, last = sum+a.size+perMessage, a.at
			}
		}
		if least := time.Duration(sum-2*(smallestMessage+1024)) * time.Second / 1000; sum < 10_000 || last.Sub(began) < least {
			t.Errorf("%d bytes were sent again in %v, want no less than %v", sum, last.Sub(began), least)
		}
	})
}

// A slow link must not make live readings and alarms wait behind backlog that is
// already on the wire.
func TestLatencyDuringDrain(t *testing.T) {
	for _, link := range []struct {
		name  string
		rate  float64
		delay time.Duration
		most  time.Duration // for alarms, from Append to arrival
	}{
		{"64 kbit/s", 8_000, 300 * time.Millisecond, 1500 * time.Millisecond},
		{"256 kbit/s", 32_000, 100 * time.Millisecond, time.Second},
		{"LAN", 0, time.Millisecond, 100 * time.Millisecond},
	} {
		t.Run(link.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, blockConfig())
				r.tr.rate, r.tr.delay = link.rate, link.delay
				r.log.addAt(edgeagent.StreamTelemetry, 1_000_000, time.Now().Add(-time.Hour).UnixNano())
				r.start()
				pause(10 * time.Second)
				var alarms []time.Time
				for range 100 {
					alarms = append(alarms, time.Now())
					r.log.add(edgeagent.StreamAlarm, 1)
					r.log.add(edgeagent.StreamTelemetry, 20)
					pause(time.Second)
				}
				pause(5 * time.Second)
				var waits []time.Duration
				for _, a := range r.rx.arrivals() {
					if a.lane == LaneAlarm {
						for n := a.head.First; n <= a.head.Last(); n++ {
							waits = append(waits, a.at.Sub(alarms[n-1]))
						}
					}
					if late := a.at.Sub(time.Unix(0, a.head.MinTime)); a.lane == LaneLive && late > link.most+500*time.Millisecond {
						t.Errorf("live %d came after %v", a.head.First, late)
					}
				}
				slices.Sort(waits)
				if len(waits) != 100 || waits[99] > link.most {
					t.Errorf("%d alarms came, the slowest after %v, want 100 within %v", len(waits), waits[max(0, len(waits)-1)], link.most)
				}
				r.end()
			})
		})
	}
}

// A long fat link must be used.
func TestUsesTheLink(t *testing.T) {
	for _, link := range []struct {
		rate  float64
		delay time.Duration
		want  float64
	}{
		{8_000, 20 * time.Millisecond, 0.9},
		{3e5, 600 * time.Millisecond, 0.75}, // it starts slowly
		{3e5, 50 * time.Millisecond, 0.9},
	} {
		t.Run(fmt.Sprintf("%.0f kB/s %v", link.rate/1e3, link.delay), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, blockConfig())
				r.tr.rate, r.tr.delay = link.rate, link.delay
				r.log.addAt(edgeagent.StreamTelemetry, 2_000_000, 0)
				r.start()
				pause(time.Minute)
				s := r.up.Stats()
				r.end()
				if got := float64(s.Accepted.Bytes) / 60 / link.rate; got < link.want {
					t.Errorf("used %.0f %% of the link, want %.0f %%; window %d, rate %.0f", 100*got, 100*link.want, s.Window, s.Rate)
				}
			})
		})
	}
}

// When the route gets longer during a drain, the window finds its size again.
func TestWindowFollowsALongerRoute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.rate, r.tr.delay = 200_000, 10*time.Millisecond
		r.log.addAt(edgeagent.StreamTelemetry, 3_000_000, 0)
		r.start()
		pause(10 * time.Second)
		r.tr.set(func() { r.tr.delay = time.Second })
		pause(time.Minute)
		before := r.up.Stats().Accepted.Bytes
		pause(30 * time.Second)
		if used := float64(r.up.Stats().Accepted.Bytes-before) / 30 / 200_000; used < 0.8 {
			t.Errorf("used %.0f %% of the link after its delay grew; stats %+v", 100*used, r.up.Stats())
		}
		r.end()
	})
}

func TestLinger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig()).start()
		pause(10 * time.Second) // an idle session
		for range 100 {
			r.log.add(edgeagent.StreamTelemetry, 1)
			pause(100 * time.Millisecond)
		}
		pause(time.Second)
		r.end()
		got := r.rx.arrivals()
		if wait := got[0].at.Sub(time.Unix(0, got[0].head.MinTime)); wait > 50*time.Millisecond {
			t.Errorf("the first message of the session waited %v", wait)
		}
		if len(got) < 15 || len(got) > 25 {
			t.Errorf("100 readings in 10 s came in %d messages, want about 20", len(got))
		}
		for _, a := range got {
			if wait := a.at.Sub(time.Unix(0, a.head.MinTime)); wait > 520*time.Millisecond {
				t.Errorf("reading %d waited %v", a.head.First, wait)
			}
		}
	})
}

func TestFlushDoesNotLinger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := blockConfig()
		cfg.Linger = 10 * time.Second
		r := newRig(t, cfg).start()
		r.log.add(edgeagent.StreamTelemetry, 1)
		r.complete(time.Second)
		r.log.add(edgeagent.StreamTelemetry, 1)
		began := time.Now()
		r.complete(time.Minute)
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("flush took %v", d)
		}
		r.end()
	})
}

func TestFlushEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		r.tr.refuse = func(int) error { return errDied }
		r.start()
		r.log.add(edgeagent.StreamTelemetry, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.up.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush without a link: %v", err)
		}
		r.end()
	})
}

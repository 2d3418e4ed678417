package sim

import (
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/faultnet"
)

// faulty is a gateway whose link to the broker is bad.
type faulty struct {
	*restored
	net *faultnet.Link
}

// newFaulty makes one that is quick to notice. Nothing is bad yet.
func newFaulty(t *testing.T) *faulty {
	t.Helper()
	r := newRestored(t, func(in hub.Input) hub.Input { return in })
	r.flush = time.Minute
	d := &r.cfg.Destinations[0]
	d.AckTimeout, d.ConfirmTimeout = time.Second, time.Second
	d.Links[0].KeepAlive = time.Second
	f := &faulty{r, faultnet.NewLink(nil, 1)}
	t.Cleanup(r.background(f.net.Run))
	r.link = faultnet.NewSwitch(f.net.DialContext)
	return f
}

func (f *faulty) both(x faultnet.Faults) {
	f.net.Set(faultnet.Up, x)
	f.net.Set(faultnet.Down, x)
}

// whole is the end of every run: what the buffer has is at the hub, once, the hub has
// no hole and nothing in quarantine.
func (f *faulty) whole() {
	t := f.t
	t.Helper()
	f.arrived()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.twice > 0 {
		t.Errorf("%d readings were stored twice", f.twice)
	}
	st := f.hub.Stats()
	for cause, n := range st.Quarantined {
		if n > 0 {
			t.Errorf("%d blocks are in quarantine for %v", n, cause)
		}
	}
	for _, d := range st.Devices {
		for _, e := range d.Epochs {
			for _, s := range e.Streams {
				if s.Missing > 0 {
					t.Errorf("%s: %d numbers are missing at the hub: %+v", s.Stream, s.Missing, s)
				}
			}
		}
	}
}

// arrived waits for the hub to have all that the buffer has: a broker may still hand
// on what it has acknowledged. It returns what that is.
func (f *faulty) arrived() map[string]bool {
	f.t.Helper()
	mine := f.stored()
	if len(mine) < 50 {
		f.t.Errorf("only %d readings were taken", len(mine))
	}
	f.until("all readings at the hub", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for x := range mine {
			if !f.rows[x] {
				return false
			}
		}
		return true
	})
	return mine
}

// cloudOf returns what the agent says of its only uplink.
func cloudOf(a *agent.Agent) api.Uplink {
	if s := a.Status(context.Background()); len(s.Uplinks) == 1 {
		return s.Uplinks[0]
	}
	return api.Uplink{}
}

// drainedFrom waits for n more readings than were confirmed when it is first asked. What
// waits then is delivered when the agent stops.
func drainedFrom(n uint64) func(*agent.Agent) bool {
	from := uint64(0)
	return func(a *agent.Agent) bool {
		u := cloudOf(a)
		if from == 0 {
			from = u.Confirmed + n
		}
		return u.Confirmed >= from && u.State == api.UplinkUp
	}
}

// phases returns a condition that is met when all were, one after another; each may act
// when it begins.
func phases(list ...func(*agent.Agent) bool) func(*agent.Agent) bool {
	return func(a *agent.Agent) bool {
		for len(list) > 0 && list[0](a) {
			list = list[1:]
		}
		return len(list) == 0
	}
}

func do(f func()) func(*agent.Agent) bool { return func(*agent.Agent) bool { f(); return true } }

// F4: a server that never acknowledges: nothing is taken for delivered.
func TestF04NoAcks(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	f.cfg.Destinations[0].Ack, f.cfg.Destinations[0].Receiver = "transport", ""
	f.net.SetAcks(faultnet.AckFaults{Drop: []int{faultnet.DropAcks}})
	f.live("a server that is mended", phases(
		appended(50),
		func(a *agent.Agent) bool { u := cloudOf(a); return u.Connects >= 3 && u.Resent > 0 },
		func(a *agent.Agent) bool {
			if u := cloudOf(a); u.Confirmed+u.Accepted > 0 {
				t.Errorf("without a single acknowledgement: %+v", u)
			}
			f.net.SetAcks(faultnet.AckFaults{})
			return true
		},
		drainedFrom(50)))
	f.whole()
}

// F5: acknowledgements that are lost, come twice, come late.
func TestF05BadAcks(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	f.net.SetAcks(faultnet.AckFaults{
		Drop: []int{3, 17}, Duplicate: []int{2, 5, 9, 10}, Delay: map[int]time.Duration{6: 300 * time.Millisecond, 12: 700 * time.Millisecond},
	})
	f.live("two sessions more", phases(confirmed(100), func(a *agent.Agent) bool { return cloudOf(a).Connects >= 2 }, drainedFrom(100)))
	f.whole()
}

// F3, F9: a link that stands still, and one that swallows everything.
func TestF09Blackhole(t *testing.T) {
	for name, bad := range map[string]faultnet.Faults{"F3 stall": {Stall: true}, "F9 blackhole": {Blackhole: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t)
			f.live("a link that works again", phases(
				confirmed(30), do(func() { f.both(bad) }),
				func(a *agent.Agent) bool { return cloudOf(a).State != api.UplinkUp },
				do(func() { f.both(faultnet.Faults{}) }),
				drainedFrom(50)))
			f.whole()
		})
	}
}

// F10, F12 in small: loss, delay, a low rate, and bits that flip.
func TestF12BadLink(t *testing.T) {
	for name, bad := range map[string]faultnet.Faults{
		"F12 slow and lossy": {Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Rate: 64_000, Drop: 0.02},
		"F10 bits flip":      {Corrupt: 0.02},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t)
			f.both(bad)
			f.live("readings through a bad link", phases(appended(200), do(func() { f.both(faultnet.Faults{}) }), drainedFrom(50)))
			if bad.Corrupt == 0 {
				f.whole()
				return
			}
			// TLS finds flipped bits; without it some reach the hub, in blocks or outside.
			// Of those in blocks it says so.
			mine := f.arrived()
			f.mu.Lock()
			defer f.mu.Unlock()
			for x := range f.rows {
				if !mine[x] {
					t.Errorf("the hub stored %s, which was never read", x)
				}
			}
		})
	}
}

// F21: everything in turn, for a while; SOAK_LINK=3600 for an hour.
func TestF21Soak(t *testing.T) {
	t.Parallel()
	seconds, err := strconv.Atoi(os.Getenv("SOAK_LINK"))
	if err != nil {
		seconds = 4
	}
	seed, err := strconv.ParseUint(os.Getenv("SOAK_SEED"), 10, 64)
	if err != nil {
		seed = 1
	}
	f := newFaulty(t)
	rnd := rand.New(rand.NewPCG(seed, 21))
	kinds := []faultnet.Faults{
		{}, {}, {Stall: true}, {Blackhole: true}, {Drop: 0.2}, {Rate: 4_000}, {Latency: 200 * time.Millisecond, Jitter: 200 * time.Millisecond},
	}
	for range max(1, seconds/30) {
		until := time.Now().Add(time.Duration(min(seconds, 30)) * time.Second)
		next := time.Now()
		f.live("a soak", phases(confirmed(20), func(*agent.Agent) bool {
			if now := time.Now(); now.After(next) {
				next = now.Add(time.Duration(rnd.Int64N(int64(time.Second))))
				switch k := rnd.IntN(len(kinds) + 2); k {
				case len(kinds):
					f.link.Cut()
					f.link.Restore()
				case len(kinds) + 1:
					f.net.Reset()
				default:
					f.both(kinds[k])
				}
			}
			return time.Now().After(until)
		}, do(func() { f.both(faultnet.Faults{}) }), drainedFrom(20)))
		f.whole()
		if n := runtime.NumGoroutine(); n > 2000 {
			t.Fatalf("%d goroutines", n)
		}
	}
	t.Logf("seed %d: %d readings, sent again %d", seed, len(f.rows), f.hub.Stats().Resent)
}

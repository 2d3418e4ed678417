package hub

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// asking is a hub in a bubble that is fed by hand.
type asking struct {
	t    *testing.T
	l    *life
	f    *feed
	hub  *Hub
	stop func()
}

func newAsking(t *testing.T, o Options) *asking {
	a := &asking{t: t, l: newLife("gw1", 1), f: newFeed()}
	o.Sink = checked(t, a.l)
	var err error
	if a.hub, err = New(o); err != nil {
		t.Fatal(err)
	}
	a.stop = running(t, a.hub, a.f)
	return a
}

func (a *asking) say(payload []byte) {
	a.f.messages <- Delivery{Topic: a.l.topic(), Payload: payload, Ack: func() {}}
	synctest.Wait()
}

func (a *asking) records(from, to edgeagent.Seq) { a.say(a.l.records(alarm, rng(from, to))) }

func (a *asking) marks(next edgeagent.Seq, gaps ...block.Gap) {
	a.say(a.l.marks(a.t, said(alarm, 1, next, gaps...)))
}

// requests returns what was asked for, and when.
func (a *asking) requests() (at []time.Duration, of []edgeagent.Ranges) {
	for _, x := range a.f.told() {
		if len(x.ack.Replay) > 0 {
			at, of = append(at, x.at), append(of, x.ack.Replay[alarm])
		}
	}
	return at, of
}

// A hole is asked for when it has had its time, though nothing else happens; then
// more and more rarely; and not at all once the agent has named it.
func TestReplayIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t, Options{})
		a.marks(1)
		a.records(1, 100)
		a.records(201, 300)
		a.records(351, 400)
		time.Sleep(29 * time.Second)
		if at, _ := a.requests(); len(at) > 0 {
			t.Fatalf("asked at %v", at)
		}
		time.Sleep(6 * time.Second)
		at, of := a.requests()
		if want := []edgeagent.Ranges{{rng(101, 200), rng(301, 350)}}; cmp.Diff(want, of) != "" {
			t.Fatalf("asked at %v for %v", at, of)
		}
		time.Sleep(time.Hour) // the device is silent
		if at, _ := a.requests(); len(at) != 1 {
			t.Errorf("a silent device was asked at %v", at)
		}
		for range 12 * 60 { // it speaks, and does not send it
			a.records(400, 400)
			time.Sleep(time.Minute)
		}
		at, _ = a.requests()
		if len(at) < 10 || len(at) > 25 {
			t.Errorf("asked %d times in 12 hours: %v", len(at), at)
		}
		a.records(101, 150) // it comes, in part
		a.marks(401, block.Gap{From: 151, To: 200, Reason: "expired", AtMost: 50})
		before := len(at)
		time.Sleep(time.Hour)
		a.records(400, 400)
		time.Sleep(time.Hour)
		at, of = a.requests()
		if n := len(at) - before; n < 1 || n > 3 || cmp.Diff(edgeagent.Ranges{rng(301, 350)}, of[len(of)-1]) != "" {
			t.Errorf("asked %d times for what is left, %v", n, of[before:])
		}
		a.records(301, 350)
		before = len(at)
		time.Sleep(3 * time.Hour)
		a.records(400, 400)
		time.Sleep(3 * time.Hour)
		if at, _ := a.requests(); len(at) != before || a.hub.Stats().Replays != uint64(before) {
			t.Errorf("asked at %v though nothing is missing, stats %d", at[before:], a.hub.Stats().Replays)
		}
		a.stop()
	})
}

// A hub that is started anew does not pull what its earlier life had taken, unless it
// is told to; what is given from then on it wants whole.
func TestReplayPolicies(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy ReplayPolicy
		want   edgeagent.Ranges
	}{
		{"new", ReplayNew, edgeagent.Ranges{rng(1011, 1020)}},
		{"all", ReplayAll, edgeagent.Ranges{rng(1, 899), rng(901, 1000), rng(1011, 1020)}},
		{"off", ReplayOff, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAsking(t, Options{Replay: c.policy})
				a.records(900, 900) // which was never confirmed
				a.marks(1001)
				a.records(1001, 1010)
				a.records(1021, 1030)
				time.Sleep(29 * time.Second)
				if at, _ := a.requests(); len(at) > 0 {
					t.Fatalf("asked at %v", at)
				}
				time.Sleep(6 * time.Second)
				_, of := a.requests()
				var last edgeagent.Ranges
				if len(of) > 0 {
					last = of[len(of)-1]
				}
				if diff := cmp.Diff(c.want, last); diff != "" {
					t.Errorf("asked for (-want +got):\n%s", diff)
				}
				a.stop()
			})
		})
	}
}

// Many holes are asked for a part at a time, the next part as soon as the last one has
// come, at most once a second.
func TestReplayInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsking(t, Options{})
		a.marks(1)
		for i := range edgeagent.Seq(1000) {
			a.records(2*i+2, 2*i+2)
		}
		time.Sleep(35 * time.Second)
		for range 20 {
			_, of := a.requests()
			for _, r := range of[len(of)-1] {
				a.records(r.From, r.To)
			}
			time.Sleep(500 * time.Millisecond)
		}
		at, of := a.requests()
		if len(at) != 4 {
			t.Fatalf("asked %d times, at %v", len(at), at)
		}
		for i := range at {
			if len(of[i]) > 256 || i > 0 && at[i]-at[i-1] < time.Second {
				t.Errorf("%d ranges at %v, after %v", len(of[i]), at[i], at[max(i-1, 0)])
			}
		}
		if s := a.hub.Stats().Devices[0].Epochs[0].Streams[0]; s.Missing > 0 {
			t.Errorf("%d missing", s.Missing)
		}
		a.stop()
	})
}

func TestParseReplayPolicy(t *testing.T) {
	for name, want := range map[string]ReplayPolicy{"new": ReplayNew, "all": ReplayAll, "off": ReplayOff} {
		if got, err := ParseReplayPolicy(name); got != want || err != nil {
			t.Errorf("%s is %v, %v", name, got, err)
		}
	}
	if _, err := ParseReplayPolicy("some"); err == nil {
		t.Error("an unknown policy is taken")
	}
}

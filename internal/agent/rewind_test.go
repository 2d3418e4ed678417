package agent

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// ownAlarms returns what the stored alarms about rewinds say.
func ownAlarms(t *testing.T, a *Agent) (out []string) {
	t.Helper()
	b, err := a.open()
	if err != nil {
		t.Fatal(err)
	}
	err = readAlarms(t.Context(), b, func(ev edgeagent.Event) {
		out = append(out, fmt.Sprintf("%s %d %s %s", ev.ID, ev.N, ev.Severity, ev.Attrs["state"]))
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A rewind that a restart cannot mend raises an alarm and leaves the agent running;
// the next start clears it, and rules do not take it for one of theirs.
func TestRewindWithoutRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := parse(t, t.TempDir(), lonely, "")
		r := start(t, Options{Config: cfg, Dial: noNetwork})
		sleep(t.Context(), time.Second)
		proof := uplink.Rewind{Epoch: 0xabc, Err: errors.New("the receiver is ahead")}
		for range 2 * maxRewinds { // nobody waits, however many there are
			r.rewinds.proved("cloud", proof)
		}
		sleep(t.Context(), time.Minute)
		if got := ownAlarms(t, r.Agent); len(got) != 1 || got[0] != "agent:rewind/cloud/0000000000000abc 1 critical firing" {
			t.Errorf("alarms %q", got)
		}
		n := len(ownAlarms(t, r.Agent))
		r.stop(t)
		r = start(t, Options{Config: cfg, Dial: noNetwork})
		sleep(t.Context(), time.Second)
		want := fmt.Sprintf("agent:rewind/cloud/0000000000000abc %d critical cleared", n+1)
		if got := ownAlarms(t, r.Agent); len(got) != n+1 || got[n] != want {
			t.Errorf("alarms %q, want the last to be %q", got, want)
		}
		r.stop(t)
		r = start(t, Options{Config: cfg, Dial: noNetwork})
		sleep(t.Context(), time.Second)
		if got := ownAlarms(t, r.Agent); len(got) != n+1 {
			t.Errorf("cleared twice: %q", got)
		}
		r.stop(t)
	})
}

// A rewind that a restart mends ends the agent in order.
func TestRewindWithRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := parse(t, t.TempDir(), lonely, "")
		r := start(t, Options{Config: cfg, Dial: noNetwork, FlushOnStop: time.Hour})
		sleep(t.Context(), time.Second)
		began := time.Now()
		r.rewinds.proved("cloud", uplink.Rewind{Epoch: 0xabc, Restart: true, Err: errors.New("the receiver is ahead")})
		if err := <-r.done; !errors.Is(err, ErrRestart) {
			t.Errorf("run: %v", err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("the stop took %v", took)
		}
		r.cancel()
		r = start(t, Options{Config: cfg, Dial: noNetwork})
		sleep(t.Context(), time.Second)
		want := []string{"agent:rewind/cloud/0000000000000abc 1 critical firing", "agent:rewind/cloud/0000000000000abc 2 critical cleared"}
		if diff := cmp.Diff(want, ownAlarms(t, r.Agent)); diff != "" {
			t.Errorf("alarms (-want +got):\n%s", diff)
		}
		r.stop(t)
	})
}

// The log of a destination refuses what its buffer refuses, and gives no reader then.
func TestBufferLogOfARewind(t *testing.T) {
	b := openBuffer(t, "cloud")
	l, err := newBufferLog(b, "cloud")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(t.Context(), values(1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	tele := edgeagent.StreamTelemetry
	first := []edgeagent.Range{{From: 1, To: 3}}
	if r, err := l.Replay(t.Context(), 0xbad, tele, first); err == nil || r != nil {
		t.Errorf("replay of an unknown epoch: %v, %v", r, err)
	}
	r, err := l.Replay(t.Context(), b.Epoch(), tele, first)
	if err != nil {
		t.Fatal(err)
	}
	if batch, ok, err := r.Next(t.Context(), edgeagent.Limit{}); err != nil || !ok || batch.Range() != first[0] {
		t.Errorf("replay: %v, %v, %v", batch.Range(), ok, err)
	}
	if run, ok := l.RunAt(b.Epoch(), tele, 3); !ok || run != b.RunID() {
		t.Errorf("run %v, %v", run, ok)
	}
	if err := l.Reappend(t.Context(), b.Epoch(), tele, first); err == nil {
		t.Error("the newest epoch was appended anew")
	}
	if err := l.DeadLetter(t.Context(), b.Epoch(), tele, edgeagent.Range{From: 2, To: 2}, "refused"); err != nil {
		t.Error(err)
	}
	if list, err := b.DeadLetters("cloud"); err != nil || len(list) != 1 || list[0].From != 2 {
		t.Errorf("dead letters %+v, %v", list, err)
	}
	restart, err := l.ProveRewind(t.Context(), b.Epoch())
	if err != nil || !restart || !l.Rewound(b.Epoch()) {
		t.Errorf("rewind: restart %v, %v, known %v", restart, err, l.Rewound(b.Epoch()))
	}
}

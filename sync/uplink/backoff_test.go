package uplink

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

func newBackoff(r ReconnectConfig) *backoff {
	return &backoff{ReconnectConfig: r.withDefaults(), rnd: rand.New(rand.NewPCG(1, 2))}
}

// The sleeps are spread between base and three times the one before, and reach the
// cap.
func TestBackoffDistribution(t *testing.T) {
	const fleet = 2000
	var mean [12]time.Duration
	for range fleet {
		b := &backoff{ReconnectConfig: ReconnectConfig{}.withDefaults(), rnd: rand.New(rand.NewPCG(rand.Uint64(), 0))}
		previous := b.Base
		for i := range mean {
			d := b.after(errDied, false)
			if d < b.Base || d > min(3*previous, b.Cap) {
				t.Fatalf("sleep %d is %v after %v", i, d, previous)
			}
			previous = d
			mean[i] += d / fleet
		}
	}
	if mean[0] < 1900*time.Millisecond || mean[0] > 2100*time.Millisecond {
		t.Errorf("the first sleep is %v on average, want 2s", mean[0])
	}
	for i := 1; i < len(mean); i++ {
		if mean[i] < mean[i-1] {
			t.Errorf("sleep %d is %v on average, shorter than the one before (%v)", i, mean[i], mean[i-1])
		}
	}
	if mean[11] < 30*time.Second {
		t.Errorf("sleep 11 is %v on average", mean[11])
	}
}

func TestBackoffAfterAHealthySession(t *testing.T) {
	b := newBackoff(ReconnectConfig{})
	for range 20 {
		b.after(errDied, false)
	}
	for range 100 {
		if d := b.after(errDied, true); d > 5*time.Second {
			t.Fatalf("first attempt after %v, want at most the spread", d)
		}
	}
	if d := b.after(errDied, false); d > 3*time.Second {
		t.Errorf("the back-off did not begin anew: %v", d)
	}
}

func TestBackoffAfterRefusals(t *testing.T) {
	b := newBackoff(ReconnectConfig{})
	longest := time.Duration(0)
	for range 100 {
		d := b.after(Refused("no", ""), true)
		if d < time.Minute || d > time.Hour {
			t.Fatalf("%v after a refusal", d)
		}
		longest = max(longest, d)
	}
	if longest != time.Hour {
		t.Errorf("never more than %v", longest)
	}
	if d := b.after(errors.New("reset"), false); d > 3*time.Second {
		t.Errorf("%v after an ordinary error that follows refusals", d)
	}
}

// A base under a second is for tests and demos: everything is quick.
func TestQuickBackoff(t *testing.T) {
	b := newBackoff(ReconnectConfig{Base: 100 * time.Millisecond})
	if b.Spread != 100*time.Millisecond || b.healthyAfter() != 6*time.Second {
		t.Errorf("spread %v, healthy after %v", b.Spread, b.healthyAfter())
	}
}

// A session is healthy once it was up for a minute and something was accepted.
func TestHealthySessionResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, blockConfig())
		fail := 8
		r.tr.refuse = func(int) error {
			if fail > 0 {
				fail--
				return errDied
			}
			return nil
		}
		r.start()
		pause(time.Hour)
		r.log.add(3, 1)
		pause(time.Second)
		began := time.Now()
		r.tr.kill()
		pause(10 * time.Second)
		r.tr.mu.Lock()
		up := r.tr.ups[len(r.tr.ups)-1]
		r.tr.mu.Unlock()
		if !up.After(began) || up.Sub(began) > 5*time.Second {
			t.Errorf("up again %v after a healthy session was lost", up.Sub(began))
		}
		r.end()
	})
}

// Sessions that work for ten seconds each are no reason to hurry.
func TestShortSessionsDoNotReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, blockConfig()).start()
		longest := time.Duration(0)
		for range 10 {
			r.log.add(3, 1)
			r.complete(10 * time.Minute)
			pause(10 * time.Second)
			r.tr.kill()
			pause(time.Millisecond)
			if s := r.up.Stats(); s.State == Backoff {
				longest = max(longest, time.Until(s.NextRetry))
			}
		}
		if longest < 10*time.Second {
			t.Errorf("waited %v at most", longest)
		}
		r.end()
	})
}

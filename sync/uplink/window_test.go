package uplink

import (
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

// A link that dies with the second message of each session still gets everything
// across.
func TestSessionsThatDieAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := blockConfig()
		cfg.Reconnect = ReconnectConfig{Base: 10 * time.Millisecond, Cap: 20 * time.Millisecond}
		r := newRig(t, cfg)
		r.tr.dieAfter = func(int) int { return 2 }
		r.log.addAt(edgeagent.StreamTelemetry, 100_000, 0)
		r.start()
		r.complete(time.Minute)
		r.end()
	})
}

func TestWindowOpensWithResults(t *testing.T) {
	var w window
	w.newSession(64, maxMessage)
	if w.open != firstOpen || w.limit() != firstBytes {
		t.Errorf("a new session may have %v messages and %d bytes in flight", w.open, w.limit())
	}
	now := time.Second
	for range 100 {
		m := w.sent(now, 1000)
		now += 10 * time.Millisecond
		w.done(now, m, 1000)
	}
	if w.open != 64 || w.messages != 0 || w.bytes != 0 {
		t.Errorf("after 100 results: %+v", w)
	}
	if w.rate < 99_000 || w.rate > 101_000 || w.rtt != 10*time.Millisecond {
		t.Errorf("rate %.0f, round trip %v, want 100 kB/s and 10ms", w.rate, w.rtt)
	}
	w.newSession(3, 500)
	if w.open != 3 || w.target() > 1024 {
		t.Errorf("the server's limits: %v messages, %d bytes", w.open, w.target())
	}
}

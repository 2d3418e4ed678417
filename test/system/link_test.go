//go:build system

package system

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/internal/api"
)

// viaProxy returns a broker, a hub beside it, and a bad link to it.
func viaProxy(t *testing.T) (*hubProc, *proxy) {
	t.Helper()
	broker := newMosquitto(t)
	return newHub(t, broker.url()), newProxy(t, strings.TrimPrefix(broker.url(), "mqtt://"))
}

// TestSlowLink: 64 kbit/s and 600 ms there and back, with a backlog to drain.
func TestSlowLink(t *testing.T) {
	const total = 10_000
	hub, link := viaProxy(t)
	link.rate.Store(8000)
	link.delay.Store(int64(300 * time.Millisecond))
	a := prepareNoisy(t, toHub(link.url(), "max", ""), total)
	t.Logf("drained in %v, %d connections", a.drained(90*time.Second), link.accepted.Load())
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
	if n := link.accepted.Load(); n > 1 {
		t.Errorf("a slow link took %d connections, want 1", n)
	}
}

// TestCutLink cuts each connection after a few kilobytes, in the middle of
// messages: sessions so short that none may ever get a large message through.
func TestCutLink(t *testing.T) {
	const total = 10_000
	hub, link := viaProxy(t)
	link.cutAfter.Store(3000)
	a := prepareNoisy(t, toHub(link.url(), "max", "confirm_timeout: 2s"), total)
	waitFor(t, 30*time.Second, "records in spite of it", func() bool { return link.accepted.Load() > 5 && hub.count() >= 100 })
	t.Logf("%d numbers came over %d connections of 3000 bytes", hub.count(), link.accepted.Load())
	link.cutAfter.Store(0)
	t.Logf("drained in %v", a.drained(60*time.Second))
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
}

// TestBlackhole: the link takes nothing any more and does not say so.
func TestBlackhole(t *testing.T) {
	const total = 40_000
	hub, link := viaProxy(t)
	a := prepareNumberedWith(t, toHub(link.url(), "4000/s", "confirm_timeout: 3s\n    ack_timeout: 4s"), total)
	a.waitStatus(20*time.Second, "the first numbers", func(s api.Status) bool { return s.Uplinks[0].Confirmed > 0 })
	link.blackhole.Store(true)
	began := time.Now()
	a.waitStatus(20*time.Second, "the dead link to be noticed", func(s api.Status) bool { return s.Uplinks[0].State != api.UplinkUp })
	t.Logf("noticed after %v", time.Since(began))
	link.blackhole.Store(false)
	link.cut()
	t.Logf("drained in %v", a.drained(60*time.Second))
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
}

// TestFlappingLink cuts the link again and again, and looks what that costs.
func TestFlappingLink(t *testing.T) {
	const total = 20_000
	hub, link := viaProxy(t)
	a := prepareNumberedWith(t, toHub(link.url(), "2000/s", "confirm_timeout: 3s"), total)
	a.waitStatus(20*time.Second, "the link", func(s api.Status) bool { return s.Uplinks[0].State == api.UplinkUp })
	before := a.descriptors()
	for range rounds(15) {
		pause(500 * time.Millisecond)
		link.cut()
	}
	t.Logf("drained in %v over %d connections", a.drained(60*time.Second), link.accepted.Load())
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
	// A question about the status, or a file of the buffer, may be open for a moment.
	waitFor(t, 20*time.Second, fmt.Sprintf("open files to be about as few as the %d at the start", before), func() bool {
		return a.descriptors() <= before+3
	})
}

// TestTakeover: two agents with one client id take each other's place over and
// over. Both say so, and both deliver in the end.
func TestTakeover(t *testing.T) {
	const total = 3000
	broker := newMosquitto(t)
	hub := newHub(t, broker.url())
	config := toHub(broker.url(), "1000/s", "confirm_timeout: 2s")
	one := prepareNumberedWith(t, config, total)
	two := prepareNumberedWith(t, config, total)
	s := one.waitStatus(20*time.Second, "agents to take each other's place over", func(s api.Status) bool {
		return s.Uplinks[0].Connects >= 4
	})
	t.Logf("%d connects; %s: %v", s.Uplinks[0].Connects, s.Uplinks[0].State, fmt.Sprint(s.Health.Warnings))
	if err := two.stop(); err != nil {
		t.Errorf("second agent after SIGTERM: %v", err)
	}
	one.drained(60 * time.Second)
	two.start()
	one.kill()
	two.drained(60 * time.Second)
	hub.checkNumbers(total)
}

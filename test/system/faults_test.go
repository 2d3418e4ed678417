//go:build system

package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/internal/api"
)

// toHub is an agent that replays numbers to a hub: url, pace, further keys of the
// destination.
func toHub(url, pace, more string) string {
	return fmt.Sprintf(`
version: 1
device: {id: counter}
sensors:
  - {name: numbers, driver: replay, file: DIR/numbers.csv, metric: n, pace: %s}
buffer: {dir: DIR/buffer}
destinations:
  - name: cloud
    receiver: hub
    links: [{url: "%s", keep_alive: 5s}]
    reconnect: {base: 200ms, cap: 1s, spread: 100ms}
    %s
`, pace, url, more)
}

// rounds returns how often a fault is repeated: few in CI, as many as
// EDGEAGENT_ROUNDS says by hand.
func rounds(few int) int {
	if n, err := strconv.Atoi(os.Getenv("EDGEAGENT_ROUNDS")); err == nil {
		return n
	}
	return few
}

// drained waits until the hub has confirmed everything, and returns how long it
// took.
func (a *agent) drained(limit time.Duration) time.Duration {
	a.t.Helper()
	began := time.Now()
	a.waitStatus(limit, "everything to be confirmed end to end", func(s api.Status) bool {
		return sourceEnded(s) && backlog(s) == 0
	})
	return time.Since(began)
}

// TestHubAndKilledAgent kills the agent at random moments.
func TestHubAndKilledAgent(t *testing.T) {
	const total = 5000
	broker := newMosquitto(t)
	hub := newHub(t, broker.url())
	a := prepareNumberedWith(t, toHub(broker.url(), "5000/s", ""), total)
	for range rounds(8) {
		pause(rand.N(700 * time.Millisecond))
		a.kill()
		a.start()
	}
	a.drained(60 * time.Second)
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
}

// TestKilledHub kills the hub, which forgets what it holds: nothing is lost, and
// only what was not confirmed may come again.
func TestKilledHub(t *testing.T) {
	const total = 40_000
	broker := newMosquitto(t)
	hub := newHub(t, broker.url())
	a := prepareNumberedWith(t, toHub(broker.url(), "8000/s", "confirm_timeout: 3s"), total)
	for range rounds(3) {
		pause(500*time.Millisecond + rand.N(time.Second))
		hub.kill()
		pause(rand.N(500 * time.Millisecond))
		hub.start()
	}
	t.Logf("drained in %v", a.drained(60*time.Second))
	hub.checkNumbers(total)
}

// TestKilledBroker kills the broker, which forgets what it has acknowledged.
func TestKilledBroker(t *testing.T) {
	const total = 40_000
	broker := newMosquitto(t)
	hub := newHub(t, broker.url())
	a := prepareNumberedWith(t, toHub(broker.url(), "8000/s", "confirm_timeout: 3s"), total)
	for range rounds(3) {
		pause(500*time.Millisecond + rand.N(time.Second))
		broker.kill()
		pause(rand.N(500 * time.Millisecond))
		broker.start()
	}
	t.Logf("drained in %v", a.drained(60*time.Second))
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
}

// TestShortQueueAtBroker: the hub is away, and the broker drops what does not fit
// its queue although it has acknowledged it.
func TestShortQueueAtBroker(t *testing.T) {
	const total = 20_000
	broker := newMosquitto(t, "max_queued_messages 10")
	hub := newHub(t, broker.url())
	a := prepareNumberedWith(t, toHub(broker.url(), "4000/s", "confirm_timeout: 3s"), total)
	pause(time.Second)
	hub.kill()
	a.waitStatus(30*time.Second, "the end of the replay", sourceEnded)
	pause(2 * time.Second)
	hub.start()
	t.Logf("drained in %v", a.drained(60*time.Second))
	hub.checkNumbers(total)
}

// TestFrozenBroker stops the broker without closing its sockets.
func TestFrozenBroker(t *testing.T) {
	const total = 60_000
	broker := newMosquitto(t)
	hub := newHub(t, broker.url())
	a := prepareNumberedWith(t, toHub(broker.url(), "5000/s", "confirm_timeout: 3s\n    ack_timeout: 5s"), total)
	pause(2 * time.Second)
	broker.signal(syscall.SIGSTOP)
	a.waitStatus(20*time.Second, "the frozen broker to be noticed", func(s api.Status) bool { return s.Uplinks[0].State != api.UplinkUp })
	broker.signal(syscall.SIGCONT)
	t.Logf("drained in %v", a.drained(60*time.Second))
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
}

// TestFrozenAgent stops the agent for longer than the broker's patience.
func TestFrozenAgent(t *testing.T) {
	const total = 20_000
	broker := newMosquitto(t)
	hub := newHub(t, broker.url())
	a := prepareNumberedWith(t, toHub(broker.url(), "8000/s", "confirm_timeout: 3s"), total)
	pause(1500 * time.Millisecond)
	a.signal(syscall.SIGSTOP)
	pause(9 * time.Second)
	a.signal(syscall.SIGCONT)
	t.Logf("drained in %v", a.drained(60*time.Second))
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
}

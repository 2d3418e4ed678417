//go:build system

package system

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/internal/api"
)

// numbered is the configuration of an agent that replays the numbers 1, 2, 3 … to
// a broker in format json.
const numbered = `
version: 1
device: {id: counter}
sensors:
  - {name: numbers, driver: replay, file: DIR/numbers.csv, metric: n, pace: %s}
buffer: {dir: %s}
destinations:
  - name: cloud
    format: json
    links: [{url: "%s"}]
    reconnect: {base: 200ms, cap: 2s}
`

// message is what a subscriber sees of one reading.
type message struct {
	Epoch  string  `json:"epoch"`
	Stream string  `json:"stream"`
	Seq    uint64  `json:"seq"`
	Value  float64 `json:"value"`
	T      string  `json:"t"`
	Metric string  `json:"metric"`
}

// TestNumberedReadings is the promise of the whole project in one test: 200,000
// numbered readings at 10,000 a second through a broker that is restarted twice
// and an agent that is killed once. Every number arrives, and no identity ever
// stands for two contents.
func TestNumberedReadings(t *testing.T) {
	const total, perSecond = 200_000, 10_000
	broker := newMosquitto(t)
	sub := broker.subscribe("ea/v1/+/+/d/+")
	a := prepareNumbered(t, broker, total, fmt.Sprintf("%d/s", perSecond))

	pause(4 * time.Second)
	broker.restart(2 * time.Second)
	pause(3 * time.Second)
	a.kill()
	a.start()
	pause(6 * time.Second)
	broker.restart(2 * time.Second)

	a.waitStatus(120*time.Second, "the replay to end and the buffer to drain", func(s api.Status) bool {
		return sourceEnded(s) && backlog(s) == 0
	})
	checkNumbers(t, broker, sub, total)
}

// TestBrokerDownAtStart: the agent starts and samples with the broker down, and
// what it took meanwhile arrives.
func TestBrokerDownAtStart(t *testing.T) {
	const total = 2000
	broker := newMosquitto(t)
	sub := broker.subscribe("ea/v1/+/+/d/+")
	broker.stop()
	a := prepareNumbered(t, broker, total, "1000/s")
	a.waitStatus(30*time.Second, "the replay to end", sourceEnded)
	broker.start()
	a.waitStatus(60*time.Second, "the buffer to drain", func(s api.Status) bool { return backlog(s) == 0 })
	if err := a.stop(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	checkNumbers(t, broker, sub, total)
}

// TestKilledOverAndOver kills the agent while it drains, again and again.
func TestKilledOverAndOver(t *testing.T) {
	const total = 20_000
	broker := newMosquitto(t)
	sub := broker.subscribe("ea/v1/+/+/d/+")
	a := prepareNumbered(t, broker, total, "10000/s")
	for i := range 10 {
		pause(time.Duration(100+37*i) * time.Millisecond)
		a.kill()
		a.start()
	}
	a.waitStatus(60*time.Second, "the replay to end and the buffer to drain", func(s api.Status) bool {
		return sourceEnded(s) && backlog(s) == 0
	})
	checkNumbers(t, broker, sub, total)
}

func prepareNumbered(t *testing.T, broker *mosquitto, total int, pace string) *agent {
	t.Helper()
	return prepareNumberedIn(t, broker, total, pace, "DIR/buffer")
}

// prepareNumberedIn starts an agent that replays 1 … total with its buffer in dir.
func prepareNumberedIn(t *testing.T, broker *mosquitto, total int, pace, dir string) *agent {
	t.Helper()
	return prepareNumberedWith(t, fmt.Sprintf(numbered, pace, dir, broker.url()), total)
}

// prepareNumberedWith starts an agent on a configuration that replays
// DIR/numbers.csv, which holds 1 … total.
func prepareNumberedWith(t *testing.T, config string, total int) *agent {
	t.Helper()
	return prepareWith(t, config, total, strconv.Itoa)
}

// prepareNoisy is the same with numbers that do not compress: behind the point
// stands noise.
func prepareNoisy(t *testing.T, config string, total int) *agent {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 1))
	return prepareWith(t, config, total, func(n int) string { return fmt.Sprintf("%d.%09d", n, rnd.IntN(1e9)) })
}

func prepareWith(t *testing.T, config string, total int, value func(n int) string) *agent {
	t.Helper()
	a := prepareAgent(t, config)
	var csv strings.Builder
	csv.WriteString("time,value\n")
	for i := range total {
		fmt.Fprintf(&csv, "%d,%s\n", 1700000000+i, value(i+1))
	}
	if err := os.WriteFile(filepath.Join(a.dir, "numbers.csv"), []byte(csv.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	t.Cleanup(func() {
		if a.cmd != nil {
			a.kill()
		}
		if t.Failed() {
			t.Logf("agent's standard error:\n%s", tail(a.stderr.String(), 60))
		}
	})
	return a
}

func sourceEnded(s api.Status) bool {
	for _, src := range s.Sensors {
		if src.Health.Code == "source-ended" {
			return true
		}
	}
	return false
}

// backlog returns how many records no destination has confirmed.
func backlog(s api.Status) uint64 {
	var n uint64
	for _, d := range s.Uplinks {
		n += d.Backlog
	}
	return n
}

// checkNumbers waits until the subscriber, which may have to connect again, has got what
// the broker keeps for it, and then holds that against 1 … total.
func checkNumbers(t *testing.T, broker *mosquitto, sub *subscriber, total int) {
	t.Helper()
	broker.flush(sub, "ea/v1/end/end/d/end")
	seen := make([]bool, total+1)
	missing := total
	readings := checkIdentities(t, sub)
	for _, m := range readings {
		n := int(m.Value)
		if n < 1 || n > total {
			t.Fatalf("a number that was never sent: %+v", m)
		}
		if !seen[n] {
			seen[n], missing = true, missing-1
		}
	}
	t.Logf("%d lines, %d identities, %d of %d numbers missing", sub.count(), len(readings), missing, total)
	if missing > 0 {
		t.Errorf("%d of %d numbers never arrived", missing, total)
	}
}

// checkIdentities parses what the subscriber got, drops what came twice, and fails
// when one identity came with two contents.
func checkIdentities(t *testing.T, sub *subscriber) map[string]message {
	t.Helper()
	lines, readings := map[string]string{}, map[string]message{}
	for _, line := range sub.all() {
		var m message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("not one JSON object a line: %v\n%.200s", err, line)
		}
		if m.Stream != "telemetry" {
			continue
		}
		id := fmt.Sprintf("%s/%s/%d", m.Epoch, m.Stream, m.Seq)
		if before, ok := lines[id]; ok && before != line {
			t.Fatalf("one identity, two contents:\n%s\n%s", before, line)
		}
		lines[id], readings[id] = line, m
	}
	return readings
}

// flush publishes a last message on a topic and waits for the subscriber to get it: the
// broker keeps the order of the messages that it delivers, so all before it are there.
func (m *mosquitto) flush(sub *subscriber, topic string) {
	m.t.Helper()
	const last = `{"stream":"the end"}`
	m.publish(topic, []byte(last))
	waitFor(m.t, 60*time.Second, "the subscriber to have got everything", func() bool { return sub.has(last) })
}

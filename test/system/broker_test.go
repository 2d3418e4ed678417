//go:build system

package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
)

// TestBrokerDropsLargeMessages: mosquitto ends the session over a message that is
// over its message_size_limit, and may have acknowledged it. The agent keeps the
// records, sends smaller messages, and everything arrives.
func TestBrokerDropsLargeMessages(t *testing.T) {
	const total = 20_000
	broker := newMosquitto(t, "message_size_limit 12000")
	hub := newHub(t, broker.url())
	broker.stop() // until there is enough for a large message
	a := prepareNoisy(t, toHub(broker.url(), "max", "confirm_timeout: 1s"), total)
	a.waitStatus(30*time.Second, "the end of the replay", sourceEnded)
	broker.start()
	s := a.waitStatus(60*time.Second, "everything to be confirmed end to end", func(s api.Status) bool {
		return sourceEnded(s) && backlog(s) == 0
	})
	if s.Uplinks[0].Connects < 2 {
		t.Errorf("no message was too large, so nothing is proven: %+v", s.Uplinks[0])
	}
	n := 0
	for _, p := range hub.all() {
		if p.Metric == "n" {
			n++
		}
	}
	if n != total {
		t.Errorf("%d of %d records at the hub", n, total)
	}
}

// TestBrokerDropsWhatIsNotAllowed: mosquitto says to a client of MQTT 5 what its access
// list forbids, acknowledges it to one of 3.1.1, and 2.0.11 hangs up on both after
// that. The agent keeps everything and says what it sees: the reason, or a silent
// receiver, or sessions that end at once.
func TestBrokerDropsWhatIsNotAllowed(t *testing.T) {
	t.Run("5", func(t *testing.T) { dropsWhatIsNotAllowed(t, "5", "not authorized (0x87)") })
	t.Run("3.1.1", func(t *testing.T) { dropsWhatIsNotAllowed(t, "3.1.1", "") })
}

func dropsWhatIsNotAllowed(t *testing.T, protocol, want string) {
	const total = 2000
	acl := filepath.Join(t.TempDir(), "acl")
	allow := func(agent string) {
		// The hub and the agent are both anonymous; only publishing data differs.
		text := "topic readwrite ea/v1/+/+/ack\ntopic " + agent + " ea/v1/+/+/d/+\n"
		if err := os.WriteFile(acl, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	allow("read")
	broker := newMosquitto(t, "acl_file "+acl)
	hub := newHub(t, broker.url())
	config := strings.Replace(toHub(broker.url(), "max", "confirm_timeout: 1s"), "{url:", `{protocol: "`+protocol+`", url:`, 1)
	a := prepareNumberedWith(t, config, total)
	a.waitStatus(20*time.Second, "the replay to end and the broker to acknowledge or hang up", func(s api.Status) bool {
		return sourceEnded(s) && (s.Uplinks[0].Accepted > 0 || s.Uplinks[0].Connects > 1)
	})
	s := a.waitStatus(30*time.Second, "somebody to be told of it: "+want, func(s api.Status) bool {
		return len(s.Health.Warnings) > 0 && strings.Contains(fmt.Sprint(s.Health.Warnings), want)
	})
	if backlog(s) != total || hub.count() > 0 {
		t.Errorf("%d of %d kept, %d at the hub", backlog(s), total, hub.count())
	}
	t.Logf("health %v", s.Health)
	allow("readwrite")
	broker.signal(syscall.SIGHUP) // it reads its access list again
	t.Logf("drained in %v", a.drained(60*time.Second))
	hub.checkNumbers(total)
}

// TestGarbage: nonsense on the ack topic confirms nothing, nonsense on the data
// topics stores nothing, and both ends go on.
func TestGarbage(t *testing.T) {
	const total = 4000
	broker := newMosquitto(t)
	hub := newHub(t, broker.url())
	wire := broker.record("ea/v1/default/counter/d/#")
	a := prepareNumberedWith(t, toHub(broker.url(), "1000/s", "confirm_timeout: 2s"), total)
	s := a.waitStatus(20*time.Second, "the link", func(s api.Status) bool { return s.Uplinks[0].State == api.UplinkUp && s.Uplinks[0].Confirmed > 0 })
	const ack, data = "ea/v1/default/counter/ack", "ea/v1/default/counter/d/live"
	epoch := s.Buffer.Epoch.String()
	for _, text := range []string{
		"garbage", "{}", "null", "[]", strings.Repeat("[", 60_000), strings.Repeat("x", 500_000),
		`{"by":"evil","e":"` + epoch + `","have":{"telemetry":[[1,4000]]}}`,
		`{"by":"hub","e":"0123456789abcdef","have":{"telemetry":[[1,4000]]}}`,
		`{"by":"hub","e":"` + epoch + `","have":{"telemetry":[[9,1]]}}`,
		`{"by":"hub","e":"` + epoch + `","have":{"telemetry":[[0,18446744073709551615]]}}`,
		`{"by":"hub","e":"` + epoch + `","need":{"series":[4294967295,0]}}`,
	} {
		broker.publish(ack, []byte(text))
	}
	broker.publish(ack, []byte("retained"), "-r")
	broker.publish(data, []byte("retained"), "-r")
	waitFor(t, 10*time.Second, "messages of the agent", func() bool { return wire.count() >= 5 })
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, text := range wire.all()[:5] {
		var b []byte
		if _, err := fmt.Sscanf(text, "%x", &b); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			flipped := append([]byte(nil), b...)
			flipped[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			broker.publish(data, flipped)
		}
		broker.publish(data, b[:rnd.IntN(len(b))])
		broker.publish("ea/v1/default/other/d/live", b)
		broker.publish("ea/v1/default/counter/d/nolane", b)
		broker.publish("ea/v1//counter/d/live", b)
	}
	a.drained(60 * time.Second)
	a.waitStatus(20*time.Second, "the agent to be well", func(s api.Status) bool { return s.Health.Level == edgeagent.OK })
	for _, p := range hub.all() {
		if !strings.Contains(p.line, `"device":"counter"`) {
			t.Errorf("stored under another device: %s", p.line)
		}
	}
	if hub.checkNumbers(total) > 0 {
		t.Error("records were printed twice although the hub never restarted")
	}
}

// record subscribes to a topic; its lines are payloads in hex.
func (m *mosquitto) record(topic string) *subscriber {
	m.t.Helper()
	return m.subscribeWith(topic, "-F", "%x", "-R")
}

// publish sends one message.
func (m *mosquitto) publish(topic string, payload []byte, more ...string) {
	m.t.Helper()
	args := append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(m.port), "-q", "1", "-t", topic, "-s"}, more...)
	cmd := exec.Command("mosquitto_pub", args...)
	cmd.Stdin = strings.NewReader(string(payload))
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("mosquitto_pub: %v %s", err, out)
	}
}

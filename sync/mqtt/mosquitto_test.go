//go:build system

package mqtt_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/transporttest"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// startMosquitto runs a broker that others wrote. These tests are behind the build
// tag "system": see make test-system.
func startMosquitto(t *testing.T, more ...string) (url string) {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto"
		if _, err := os.Stat(program); err != nil {
			t.Fatal("mosquitto is not installed: apt-get install mosquitto")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 10000\n", addr.Port)
	if os.Geteuid() == 0 {
		text += "user root\n" // or it could not read what the test wrote
	}
	text += strings.Join(more, "\n")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start mosquitto: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	until(t, "mosquitto", func() bool {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "mqtt://" + addr.String()
}

// Both ends through mosquitto, with the receiver's link cut in the middle: every
// message arrives.
func TestMosquitto(t *testing.T) {
	for _, protocol := range []string{uplink.ProtocolMQTT3, uplink.ProtocolMQTT5} {
		t.Run(protocol, func(t *testing.T) { throughMosquitto(t, protocol) })
	}
}

func throughMosquitto(t *testing.T, protocol string) {
	url := startMosquitto(t)
	link := faultnet.NewSwitch(nil)
	r := newReceiver(t, mqtt.ReceiverConfig{URL: url, Dial: link.DialContext, Protocol: protocol})
	in := newInbox()
	background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })

	tr := agent(t, uplink.LinkConfig{URL: url, Protocol: protocol}, mqtt.Options{Acks: true})
	h := newLog()
	const n = 2000
	background(t, func(ctx context.Context) error {
		return tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
			for i := range n {
				if err := s.Send(ctx, uplink.Message{ID: uint64(i + 1), Lane: uplink.LaneBacklog, Payload: fmt.Append(nil, i)}); err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
		})
	})
	seen, cut := map[string]int{}, false
	for len(seen) < n {
		d := in.next(t)
		if !strings.HasSuffix(d.Topic, "/d/backlog") {
			t.Fatalf("message on %s", d.Topic)
		}
		seen[string(d.Payload)]++
		d.Ack()
		if len(seen) == n/2 && !cut {
			cut = true
			link.Cut()
			link.Restore()
		}
	}
	h.wait(t, "results", func() bool { return len(h.accepted) == n })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })
	if err := r.Publish(t.Context(), mqtt.AckTopic("default", "gw1"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	h.wait(t, "the end-to-end ack", func() bool { return len(h.acks) == 1 })
	// How many come again is mosquitto's affair: acknowledgements that it had not
	// read yet are lost with the connection.
	again := 0
	for _, times := range seen {
		again += times - 1
	}
	t.Logf("%d of %d messages came again", again, n)
}

// What is sent while the receiver is away waits at the broker, more of it than
// the numbers of the receiver's own packets could get past.
func TestMosquittoKeepsTheSession(t *testing.T) {
	for _, protocol := range []string{uplink.ProtocolMQTT3, uplink.ProtocolMQTT5} {
		t.Run(protocol, func(t *testing.T) { keepsTheSession(t, protocol) })
	}
}

func keepsTheSession(t *testing.T, protocol string) {
	url := startMosquitto(t)
	r := newReceiver(t, mqtt.ReceiverConfig{URL: url, Protocol: protocol})
	in := newInbox()
	stop := background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })
	stop()

	const n = 500
	h := newLog()
	sender := background(t, func(ctx context.Context) error {
		tr := agent(t, uplink.LinkConfig{URL: url}, mqtt.Options{})
		return tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) { _ = sendAll(ctx, s, n) })
	})
	h.wait(t, "results", func() bool { return len(h.accepted) == n })
	sender()

	background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
	for i := range n {
		d := in.next(t)
		d.Ack()
		if i%50 == 0 { // an ack goes out in between, as a hub's do
			if err := r.Publish(t.Context(), mqtt.AckTopic("default", "gw1"), []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The suite that every transport must pass, with a broker that others wrote.
func TestMosquittoConformance(t *testing.T) {
	for _, protocol := range []string{uplink.ProtocolMQTT3, uplink.ProtocolMQTT5, uplink.ProtocolAuto} {
		t.Run(protocol, func(t *testing.T) {
			url := startMosquitto(t)
			transporttest.Run(t, func(t *testing.T) transporttest.Link {
				sw := faultnet.NewSwitch(nil)
				tr := agent(t, uplink.LinkConfig{URL: url, Protocol: protocol}, mqtt.Options{Device: "gw", Acks: true, Dial: sw.DialContext})
				rx := newReceiver(t, mqtt.ReceiverConfig{URL: url, ClientID: t.Name(), Protocol: protocol})
				far := newFarEnd(t, rx)
				return transporttest.Link{Transport: tr, Arrived: far.all, Ack: far.ack, Cut: sw.Cut, Restore: sw.Restore}
			})
		})
	}
}

// On MQTT 5 mosquitto says what it does with a message; on 3.1.1 it acknowledges what it
// forbids and drops what is too large like anything else, or hangs up.
func TestMosquittoReasons(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl")
	text := "topic readwrite ea/v1/default/gw1/d/live\ntopic readwrite ea/v1/default/gw1/d/backlog\ntopic readwrite ea/v1/default/gw1/ack\n"
	if err := os.WriteFile(acl, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	url := startMosquitto(t, "acl_file "+acl, "message_size_limit 10000", "")
	r := newReceiver(t, mqtt.ReceiverConfig{URL: url, Subscribe: []string{"ea/v1/default/gw1/d/live"}})
	background(t, func(ctx context.Context) error { return r.Run(ctx, func(d mqtt.Delivery) { d.Ack() }) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })
	send := []uplink.Message{
		{ID: 1, Lane: uplink.LaneLive, Payload: []byte("heard")},
		{ID: 2, Lane: uplink.LaneBacklog, Payload: []byte("nobody listens")},
		{ID: 3, Lane: uplink.LaneAlarm, Payload: []byte("forbidden")},
		{ID: 4, Lane: uplink.LaneLive, Payload: make([]byte, 12_000)},
	}
	for _, tt := range []struct {
		protocol string
		want     map[uint64]uplink.Class
	}{
		{uplink.ProtocolMQTT5, map[uint64]uplink.Class{1: uplink.Accepted, 2: uplink.NoReceiver, 3: uplink.ConfigError, 4: uplink.Poison}},
		{uplink.ProtocolMQTT3, map[uint64]uplink.Class{1: uplink.Accepted, 2: uplink.Accepted, 3: uplink.Accepted}},
	} {
		t.Run(tt.protocol, func(t *testing.T) {
			got := map[uint64]uplink.Class{}
			for _, m := range send[:len(tt.want)] {
				h := newLog()
				// Acks are asked for, so that the hint topic is, which the list forbids.
				tr := agent(t, uplink.LinkConfig{URL: url, Protocol: tt.protocol}, mqtt.Options{Acks: true})
				end := background(t, func(ctx context.Context) error {
					return tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) { _ = s.Send(ctx, m) })
				})
				h.wait(t, "a result", func() bool { return len(h.accepted)+len(h.others) == 1 })
				end()
				for _, r := range h.others {
					got[m.ID] = r.Class
					t.Logf("%v (hint: %s)", r.Err, hintOf(r.Err))
				}
				for _, id := range h.accepted {
					got[id] = uplink.Accepted
				}
				if caps := h.ups[0]; caps.ReasonCodes && caps.MaxInFlight != 20 {
					t.Errorf("caps %+v, want mosquitto's window of 20", caps)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("classes (-want +got):\n%s", diff)
			}
		})
	}
}

// A queue of ten messages for a receiver who is away: what does not fit is dropped and
// acknowledged, in both versions. So an acknowledgement by the broker is no promise.
func TestMosquittoShortQueue(t *testing.T) {
	for _, protocol := range []string{uplink.ProtocolMQTT3, uplink.ProtocolMQTT5} {
		t.Run(protocol, func(t *testing.T) {
			url := startMosquitto(t, "max_queued_messages 10", "max_inflight_messages 1", "")
			r := newReceiver(t, mqtt.ReceiverConfig{URL: url, Protocol: protocol})
			in := newInbox()
			stop := background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
			until(t, "the receiver's connection", func() bool { return r.Stats().Connected })
			stop()
			h := newLog()
			background(t, func(ctx context.Context) error {
				tr := agent(t, uplink.LinkConfig{URL: url, Protocol: protocol}, mqtt.Options{})
				return tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) { _ = sendAll(ctx, s, 200) })
			})
			h.wait(t, "results", func() bool { return len(h.accepted)+len(h.others) == 200 })
			classes := map[uplink.Class]int{uplink.Accepted: len(h.accepted)}
			for _, o := range h.others {
				classes[o.Class]++
			}
			t.Logf("results %v", classes)
			background(t, func(ctx context.Context) error {
				return r.Run(ctx, func(d mqtt.Delivery) { d.Ack(); in.handle(d) })
			})
			got := 0
			for range 10 {
				in.next(t)
				got++
			}
			if classes[uplink.Poison]+classes[uplink.ConfigError]+classes[uplink.Unknown] > 0 {
				t.Errorf("a full queue is no fault of the message: %v", classes)
			}
		})
	}
}

// Workers of a group share what comes through mosquitto.
func TestMosquittoGroup(t *testing.T) {
	url := startMosquitto(t)
	in := newInbox()
	for i := range 2 {
		r := newReceiver(t, mqtt.ReceiverConfig{URL: url, ClientID: fmt.Sprintf("worker-%d", i), Group: "hubs"})
		background(t, func(ctx context.Context) error {
			return r.Run(ctx, func(d mqtt.Delivery) { d.Ack(); in.handle(d) })
		})
		until(t, "a worker", func() bool { return r.Stats().Connected })
	}
	h := newLog()
	const n = 500
	tr := agent(t, uplink.LinkConfig{URL: url}, mqtt.Options{})
	background(t, func(ctx context.Context) error {
		return tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) { _ = sendAll(ctx, s, n) })
	})
	for range n {
		in.next(t)
	}
	h.wait(t, "results", func() bool { return len(h.accepted) == n })
	if len(in.got) > 0 {
		t.Errorf("%d messages came twice", len(in.got))
	}
}

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

	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// startMosquitto runs a broker that others wrote. These tests are behind the build
// tag "system": see make test-system.
func startMosquitto(t *testing.T) (url string) {
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
	url := startMosquitto(t)
	link := faultnet.NewSwitch(nil)
	r := newReceiver(t, mqtt.ReceiverConfig{URL: url, Dial: link.DialContext})
	in := newInbox()
	background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })

	tr := agent(t, uplink.LinkConfig{URL: url}, mqtt.Options{Acks: true})
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
	url := startMosquitto(t)
	r := newReceiver(t, mqtt.ReceiverConfig{URL: url})
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

package nats

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/edgeagent/edgeagent/hub"
)

func run(t testing.TB) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// worker is an input whose deliveries are collected.
type worker struct {
	in   *Input
	got  chan hub.Delivery
	stop func()
}

func newWorker(t testing.TB, url string, wait time.Duration) *worker {
	t.Helper()
	in, err := Open(Options{URL: url, Stream: "EDGE", AckWait: wait})
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{in: in, got: make(chan hub.Delivery)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- in.Run(ctx, func(d hub.Delivery) {
			select {
			case w.got <- d:
			case <-ctx.Done():
			}
		})
	}()
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			_ = in.Close()
		})
	}
	t.Cleanup(w.stop)
	for !in.Stats().Connected {
		<-time.After(5 * time.Millisecond)
	}
	return w
}

// TestWorkers: two workers share what comes; what one has not acknowledged when it dies
// goes to the other.
func TestWorkers(t *testing.T) {
	url := run(t).ClientURL()
	a := newWorker(t, url, 2*time.Second)
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const n = 20
	for i := range n {
		if _, err := conn.Request("ea.v1.acme.gw//1.d.live", fmt.Append(nil, i), 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for range 5 {
		d := <-a.got
		if d.Topic != "ea/v1/acme/gw.1/d/live" {
			t.Errorf("topic %s", d.Topic)
		}
		d.Ack()
		seen[string(d.Payload)] = true
	}
	held := <-a.got // taken, and never acknowledged
	a.stop()
	b := newWorker(t, url, 2*time.Second)
	for len(seen) < n {
		select {
		case d := <-b.got:
			if seen[string(d.Payload)] {
				t.Errorf("%s came again though it was acknowledged", d.Payload)
			}
			d.Ack()
			seen[string(d.Payload)] = true
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of %d came", len(seen), n)
		}
	}
	if !seen[string(held.Payload)] {
		t.Error("what the first worker held is lost")
	}
}

// TestNeverAcknowledged: a message that nobody acknowledges does not keep back the others,
// and comes again.
func TestNeverAcknowledged(t *testing.T) {
	url := run(t).ClientURL()
	w := newWorker(t, url, 200*time.Millisecond)
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{"bad", "good"} {
		if _, err := conn.Request("ea.v1.acme.gw.d.live", []byte(text), 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	limit := time.After(time.Minute)
	bad, good := 0, false
	for bad < 2 || !good {
		select {
		case d := <-w.got:
			if string(d.Payload) == "bad" {
				bad++
				continue
			}
			good = true
			d.Ack()
		case <-limit:
			t.Fatalf("the bad message came %d times, the good one: %v", bad, good)
		}
	}
}

// TestPublish: acks go out under the name that MQTT clients know.
func TestPublish(t *testing.T) {
	url := run(t).ClientURL()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sub, err := conn.SubscribeSync("ea.v1.acme.gw//1.ack")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := newWorker(t, url, 0).in.Publish(t.Context(), "ea/v1/acme/gw.1/ack", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsg(10 * time.Second); err != nil || string(m.Data) != "{}" {
		t.Errorf("%v, %v", m, err)
	}
}

func TestTopics(t *testing.T) {
	for topic, subject := range map[string]string{
		"ea/v1/acme/gw-1/d/live": "ea.v1.acme.gw-1.d.live",
		"ea/v1/a.b/.gw./d/live":  "ea.v1.a//b.//gw//.d.live",
	} {
		if got := subjectOf(topic); got != subject {
			t.Errorf("subjectOf(%s) = %s", topic, got)
		}
		if got := topicOf(subject); got != topic {
			t.Errorf("topicOf(%s) = %s", subject, got)
		}
	}
}

func Example() {
	_, err := Open(Options{URL: "nats://127.0.0.1:1"})
	fmt.Println(err)
	// Output: nats input: which stream?
}

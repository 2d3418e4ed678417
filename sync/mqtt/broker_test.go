package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"go.uber.org/goleak"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startBroker runs a broker until the test ends, or stop is called.
func startBroker(t *testing.T, o broker.Options) (b *broker.Broker, stop func()) {
	t.Helper()
	b = broker.New(o)
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	stop = background(t, b.Run)
	return b, stop
}

// background runs f until the test ends, or stop is called, and fails the test if
// f fails.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("in the background: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// inbox collects deliveries.
type inbox struct{ got chan mqtt.Delivery }

func newInbox() *inbox                   { return &inbox{make(chan mqtt.Delivery, 4096)} }
func (in *inbox) handle(d mqtt.Delivery) { in.got <- d }

// next returns the next delivery or fails the test.
func (in *inbox) next(t *testing.T) mqtt.Delivery {
	t.Helper()
	select {
	case d := <-in.got:
		return d
	case <-time.After(time.Minute):
		t.Fatal("waited in vain for a message")
		return mqtt.Delivery{}
	}
}

// until waits for a condition that nobody tells us about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func newReceiver(t *testing.T, cfg mqtt.ReceiverConfig) *mqtt.Receiver {
	t.Helper()
	r, err := mqtt.NewReceiver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func agent(t *testing.T, link uplink.LinkConfig, o mqtt.Options) *mqtt.Transport {
	t.Helper()
	if o.Device == "" {
		o.Device = "gw1"
	}
	tr, err := mqtt.New(link, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// A thousand messages and an ack, through a broker, between both ends.
func TestBothEnds(t *testing.T) {
	b, _ := startBroker(t, broker.Options{Users: map[string]string{"gw1": "pw", "hub": "pw2"}})
	r := newReceiver(t, mqtt.ReceiverConfig{URL: b.URL(), Username: "hub", Password: edgeagent.NewSecret("pw2")})
	in := newInbox()
	background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })

	tr := agent(t, uplink.LinkConfig{URL: b.URL(), Username: "gw1", Password: edgeagent.NewSecret("pw")}, mqtt.Options{Acks: true})
	h := newLog()
	const n = 1000
	background(t, func(ctx context.Context) error {
		return tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) { _ = sendAll(ctx, s, n) })
	})
	for range n {
		d := in.next(t)
		if d.Topic != "ea/v1/default/gw1/d/live" || string(d.Payload) != "payload" {
			t.Fatalf("got %q on %s", d.Payload, d.Topic)
		}
		d.Ack()
	}
	h.wait(t, "results", func() bool { return len(h.accepted) == n })
	for i, id := range h.accepted {
		if id != uint64(i+1) {
			t.Fatalf("result %d is for message %d", i, id)
		}
	}
	if err := r.Publish(t.Context(), mqtt.AckTopic("default", "gw1"), []byte(`{"by":"hub"}`)); err != nil {
		t.Fatal(err)
	}
	h.wait(t, "the end-to-end ack", func() bool { return len(h.acks) == 1 && h.acks[0] == `{"by":"hub"}` })
	until(t, "all acknowledgements at the broker", func() bool { return b.Stats().Waiting == 0 })
}

func TestBrokerRefusesLogin(t *testing.T) {
	b, _ := startBroker(t, broker.Options{Users: map[string]string{"gw1": "pw"}})
	tr := agent(t, uplink.LinkConfig{URL: b.URL(), Username: "gw1", Password: edgeagent.NewSecret("wrong")}, mqtt.Options{})
	err := tr.Session(t.Context(), newLog(), func(context.Context, uplink.Session) {})
	if _, refused := errors.AsType[*uplink.RefusedError](err); !refused {
		t.Fatalf("session ended with %v, want a refusal", err)
	}
	if b.Stats().Refused != 1 {
		t.Errorf("broker stats %+v, want one refused login", b.Stats())
	}
}

// What was delivered and not acknowledged comes again after the link was cut;
// what was acknowledged does not. MQTT 5 acknowledges in order: what was done after
// one that was not comes again, too.
func TestReceiverGetsUnackedAgain(t *testing.T) {
	t.Run("3.1.1", func(t *testing.T) { unackedAgain(t, uplink.ProtocolMQTT3, []int{1, 3, 5, 7, 9}) })
	t.Run("5", func(t *testing.T) { unackedAgain(t, uplink.ProtocolMQTT5, []int{1, 2, 3, 4, 5, 6, 7, 8, 9}) })
}

func unackedAgain(t *testing.T, protocol string, want []int) {
	b, _ := startBroker(t, broker.Options{})
	link := faultnet.NewSwitch(nil)
	r := newReceiver(t, mqtt.ReceiverConfig{URL: b.URL(), Dial: link.DialContext, Protocol: protocol})
	in := newInbox()
	background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })

	h := newLog()
	tr := agent(t, uplink.LinkConfig{URL: b.URL()}, mqtt.Options{})
	sender := background(t, func(ctx context.Context) error {
		return tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
			for i := range 10 {
				m := uplink.Message{ID: uint64(i), Lane: uplink.LaneLive, Payload: fmt.Append(nil, i)}
				if err := s.Send(ctx, m); err != nil {
					t.Error(err)
				}
			}
		})
	})
	for i := range 10 {
		if d := in.next(t); i%2 == 0 {
			d.Ack()
		}
	}
	until(t, "the acknowledgements", func() bool { return b.Stats().Waiting == int64(len(want)) })
	sender()
	link.Cut()
	until(t, "the loss to be noticed", func() bool { return !r.Stats().Connected })
	link.Restore()

	again := map[string]bool{}
	for range want {
		d := in.next(t)
		again[string(d.Payload)] = true
		d.Ack()
	}
	for _, i := range want {
		if !again[strconv.Itoa(i)] {
			t.Errorf("message %d did not come again: %v", i, again)
		}
	}
	until(t, "all acknowledgements", func() bool { return b.Stats().Waiting == 0 })
	if len(in.got) > 0 {
		t.Errorf("%d acknowledged messages came again", len(in.got))
	}
}

// An Ack that is called after its connection has ended must neither block nor
// acknowledge anything on the next connection.
func TestLateAckDoesNothing(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	link := faultnet.NewSwitch(nil)
	r := newReceiver(t, mqtt.ReceiverConfig{URL: b.URL(), Dial: link.DialContext})
	in := newInbox()
	background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })
	if err := r.Publish(t.Context(), "ea/v1/t/d/d/live", []byte("x")); err != nil {
		t.Fatal(err)
	}
	old := in.next(t)
	link.Cut()
	until(t, "the loss to be noticed", func() bool { return !r.Stats().Connected })
	link.Restore()
	d := in.next(t)
	old.Ack()
	if got := b.Stats().Waiting; got != 1 {
		t.Errorf("%d messages wait at the broker, want 1", got)
	}
	d.Ack()
	until(t, "the acknowledgement", func() bool { return b.Stats().Waiting == 0 })
}

func TestReceiverOutlivesBroker(t *testing.T) {
	b, stop := startBroker(t, broker.Options{})
	addr := b.Addr()
	r := newReceiver(t, mqtt.ReceiverConfig{URL: b.URL()})
	in := newInbox()
	background(t, func(ctx context.Context) error { return r.Run(ctx, in.handle) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })
	stop()
	until(t, "the loss to be noticed", func() bool { return !r.Stats().Connected })
	if err := r.Publish(t.Context(), "x", nil); !errors.Is(err, mqtt.ErrOffline) {
		t.Errorf("publish without a connection: %v", err)
	}
	startBroker(t, broker.Options{Addr: addr})
	until(t, "the new connection", func() bool { return r.Stats().Connected })
	if err := r.Publish(t.Context(), "ea/v1/t/d/d/live", []byte("back")); err != nil {
		t.Fatal(err)
	}
	if d := in.next(t); string(d.Payload) != "back" {
		t.Errorf("got %q", d.Payload)
	}
}

// A cut in the middle of a drain ends the session at once, although Send is
// busy, and whatever is reported accepted was indeed acknowledged.
func TestCutWhileSending(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	for range 10 {
		link := faultnet.NewSwitch(nil)
		tr := agent(t, uplink.LinkConfig{URL: b.URL()}, mqtt.Options{Dial: link.DialContext})
		h := newLog()
		before := b.Stats().Received
		done := make(chan error, 1)
		background(t, func(ctx context.Context) error {
			done <- tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
				big := make([]byte, 32<<10)
				for i := uint64(1); s.Send(ctx, uplink.Message{ID: i, Lane: uplink.LaneBacklog, Payload: big}) == nil; i++ {
				}
			})
			return nil
		})
		h.wait(t, "some results", func() bool { return len(h.accepted) > 50 })
		link.Cut()
		began := time.Now()
		if err := <-done; !errors.Is(err, faultnet.ErrCut) {
			t.Fatalf("session ended with %v, want the cut", err)
		}
		if took := time.Since(began); took > 20*time.Second { // a keep-alive takes 30 s
			t.Errorf("session ended %v after the cut", took)
		}
		if got := b.Stats().Received - before; int64(len(h.accepted)) > got {
			t.Errorf("%d accepted, broker received %d", len(h.accepted), got)
		}
	}
}

func TestSameClientIDTakesOver(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	first, second := agent(t, uplink.LinkConfig{URL: b.URL()}, mqtt.Options{}), agent(t, uplink.LinkConfig{URL: b.URL()}, mqtt.Options{})
	up := make(chan struct{}, 1)
	gone := make(chan error, 1)
	background(t, func(ctx context.Context) error {
		gone <- first.Session(ctx, newLog(), func(context.Context, uplink.Session) { up <- struct{}{} })
		return nil
	})
	<-up
	background(t, func(ctx context.Context) error {
		return second.Session(ctx, newLog(), func(context.Context, uplink.Session) {})
	})
	if err := <-gone; err == nil {
		t.Error("the first session ended without an error")
	}
}

// More messages than the queue holds, and a handler that sleeps: nothing is lost,
// the rest is asked for again.
func TestFloodedReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total = 6000
		acked := map[uint16]bool{}
		s := &script{play: func(p *peer) {
			p.login(0)
			if !p.subscription(1) {
				return // the publisher's connection: says nothing but goodbye
			}
			var sender sync.WaitGroup
			var todo []uint16
			for i := range total {
				if id := uint16(i + 1); !acked[id] {
					todo = append(todo, id)
				}
			}
			sender.Go(func() {
				for _, id := range todo {
					pk := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
					pk.Qos, pk.TopicName, pk.MessageID, pk.Payload = 1, "t", id, fmt.Append(nil, id)
					if !p.send(pk) {
						return
					}
				}
			})
			for {
				pk, ok := p.read()
				if !ok {
					break
				}
				if ack, ok := pk.(*packets.PubackPacket); ok {
					acked[ack.MessageID] = true
				}
			}
			p.Close()
			sender.Wait()
		}}
		r := newReceiver(t, mqtt.ReceiverConfig{URL: "mqtt://broker", Dial: s.dial, Protocol: uplink.ProtocolMQTT3})
		seen := map[string]int{}
		ctx, cancel := context.WithCancel(t.Context())
		err := r.Run(ctx, func(d mqtt.Delivery) {
			if len(seen) == 0 {
				time.Sleep(time.Minute) // a sink that takes its time
			}
			seen[string(d.Payload)]++
			d.Ack()
			if len(seen) == total {
				cancel()
			}
		})
		cancel()
		if err != nil {
			t.Error(err)
		}
		s.wg.Wait()
		st := r.Stats()
		if len(seen) != total || st.Dropped == 0 || st.Connects < 2 {
			t.Errorf("saw %d of %d messages, stats %+v", len(seen), total, st)
		}
	})
}

// A server that takes publishes and never acknowledges them is left.
func TestReceiverPublishIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{play: func(p *peer) {
			p.login(0)
			for {
				pk, ok := p.read()
				if !ok {
					return
				}
				switch pk := pk.(type) {
				case *packets.SubscribePacket:
					ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
					ack.MessageID, ack.ReturnCodes = pk.MessageID, []byte{1}
					p.send(ack)
				case *packets.PingreqPacket:
					p.send(packets.NewControlPacket(packets.Pingresp))
				}
			}
		}}
		r := newReceiver(t, mqtt.ReceiverConfig{URL: "mqtt://broker", Dial: s.dial, Protocol: uplink.ProtocolMQTT3})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.Run(ctx, func(mqtt.Delivery) {}) })
		synctest.Wait()
		began := time.Now()
		if err := r.Publish(ctx, "t", nil); err == nil {
			t.Error("publish without a PUBACK succeeded")
		}
		if took := time.Since(began); took > 21*time.Second {
			t.Errorf("publish gave up after %v", took)
		}
		time.Sleep(5 * time.Second)
		if st := r.Stats(); st.Connects != 2 {
			t.Errorf("stats %+v, want a second connection", st)
		}
		cancel()
		wg.Wait()
		s.wg.Wait()
	})
}

package mqtt_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/transporttest"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// TestConformance runs the suite that every transport must pass, in each version.
func TestConformance(t *testing.T) {
	for _, protocol := range []string{uplink.ProtocolMQTT3, uplink.ProtocolMQTT5, uplink.ProtocolAuto} {
		t.Run(protocol, func(t *testing.T) { conformance(t, protocol) })
	}
}

func conformance(t *testing.T, protocol string) {
	transporttest.Run(t, func(t *testing.T) transporttest.Link {
		b, _ := startBroker(t, broker.Options{})
		sw := faultnet.NewSwitch(nil)
		tr, err := mqtt.New(uplink.LinkConfig{URL: b.URL(), Protocol: protocol}, mqtt.Options{Device: "gw", Acks: true, Dial: sw.DialContext})
		if err != nil {
			t.Fatal(err)
		}
		rx := newReceiver(t, mqtt.ReceiverConfig{URL: b.URL(), ClientID: "rx", Protocol: protocol})
		far := newFarEnd(t, rx)
		return transporttest.Link{
			Transport: tr,
			Arrived:   far.all,
			Ack:       far.ack,
			Cut:       sw.Cut, Restore: sw.Restore, Refuse: b.RefuseLogins,
			Withhold: func() { b.WithholdAcks(true) },
		}
	})
}

// farEnd is a receiver as the suite wants it.
type farEnd struct {
	t  *testing.T
	rx *mqtt.Receiver

	mu  sync.Mutex // guards what follows
	got []transporttest.Arrival
}

// newFarEnd runs rx until the test ends and returns when it is connected.
func newFarEnd(t *testing.T, rx *mqtt.Receiver) *farEnd {
	t.Helper()
	f := &farEnd{t: t, rx: rx}
	background(t, func(ctx context.Context) error { return rx.Run(ctx, f.take) })
	until(t, "receiver", func() bool { return rx.Stats().Connected })
	return f
}

func (f *farEnd) take(d mqtt.Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lane := d.Topic[strings.LastIndex(d.Topic, "/")+1:]
	for l := range uplink.Lane(4) {
		if l.String() == lane {
			f.got = append(f.got, transporttest.Arrival{Lane: l, Payload: string(d.Payload)})
		}
	}
	d.Ack()
}

func (f *farEnd) all() []transporttest.Arrival {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

func (f *farEnd) ack(p []byte) {
	if err := f.rx.Publish(f.t.Context(), mqtt.AckTopic("default", "gw"), p); err != nil {
		f.t.Error(err)
	}
}

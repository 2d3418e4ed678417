package mqtt_test

import (
	"context"
	"testing"

	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// An agent whose link is cut comes back at once, while the broker still clears
// its old session away: it must hear acks on the new one.
func TestAckTopicAfterQuickReconnects(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	r := newReceiver(t, mqtt.ReceiverConfig{URL: b.URL()})
	background(t, func(ctx context.Context) error { return r.Run(ctx, func(d mqtt.Delivery) { d.Ack() }) })
	until(t, "the receiver's connection", func() bool { return r.Stats().Connected })
	link := faultnet.NewSwitch(nil)
	tr := agent(t, uplink.LinkConfig{URL: b.URL()}, mqtt.Options{Acks: true, Dial: link.DialContext})
	for range 200 {
		h := newLog()
		up := make(chan struct{}, 1)
		done := make(chan struct{})
		background(t, func(ctx context.Context) error {
			defer close(done)
			_ = tr.Session(ctx, h, func(context.Context, uplink.Session) { up <- struct{}{} })
			return nil
		})
		<-up
		if err := r.Publish(t.Context(), mqtt.AckTopic("default", "gw1"), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		h.wait(t, "an ack", func() bool { return len(h.acks) == 1 })
		link.Cut()
		link.Restore()
		<-done
	}
}

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
		var mu sync.Mutex
		var got []transporttest.Arrival
		background(t, func(ctx context.Context) error {
			return rx.Run(ctx, func(d mqtt.Delivery) {
				mu.Lock()
				defer mu.Unlock()
				lane := d.Topic[strings.LastIndex(d.Topic, "/")+1:]
				for l := range 4 {
					if uplink.Lane(l).String() == lane {
						got = append(got, transporttest.Arrival{Lane: uplink.Lane(l), Payload: string(d.Payload)})
					}
				}
				d.Ack()
			})
		})
		until(t, "receiver", func() bool { return rx.Stats().Connected })
		return transporttest.Link{
			Transport: tr,
			Arrived: func() []transporttest.Arrival {
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(got)
			},
			Ack: func(p []byte) {
				if err := rx.Publish(t.Context(), "ea/v1/default/gw/ack", p); err != nil {
					t.Error(err)
				}
			},
			Cut: sw.Cut, Restore: sw.Restore, Refuse: b.RefuseLogins,
			Withhold: func() { b.WithholdAcks(true) },
		}
	})
}

package mqtt_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// Receivers of a group share the messages: each comes to one of them.
func TestGroupShares(t *testing.T) {
	b, _ := startBroker(t, broker.Options{})
	in := newInbox()
	var mu sync.Mutex
	by := map[int]int{}
	for i := range 3 {
		r := newReceiver(t, mqtt.ReceiverConfig{URL: b.URL(), ClientID: fmt.Sprintf("worker-%d", i), Group: "hubs"})
		background(t, func(ctx context.Context) error {
			return r.Run(ctx, func(d mqtt.Delivery) {
				mu.Lock()
				by[i]++
				mu.Unlock()
				d.Ack()
				in.handle(d)
			})
		})
		until(t, "a worker", func() bool { return r.Stats().Connected && r.Stats().Protocol == "5" })
	}
	h := newLog()
	const n = 300
	tr := agent(t, uplink.LinkConfig{URL: b.URL()}, mqtt.Options{})
	background(t, func(ctx context.Context) error {
		return tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) { _ = sendAll(ctx, s, n) })
	})
	for range n {
		in.next(t)
	}
	h.wait(t, "results", func() bool { return len(h.accepted) == n })
	until(t, "all acknowledgements at the broker", func() bool { return b.Stats().Waiting == 0 })
	if len(in.got) > 0 {
		t.Errorf("%d messages came twice", len(in.got))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(by) < 2 {
		t.Errorf("messages by worker %v: nothing was shared", by)
	}
}

func TestNewReceiverRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  mqtt.ReceiverConfig
		want string
	}{
		{"unknown protocol", mqtt.ReceiverConfig{Protocol: "4"}, "unknown protocol 4"},
		{"a group in 3.1.1", mqtt.ReceiverConfig{Protocol: "3.1.1", Group: "g"}, "no shared subscriptions"},
		{"a group that is a filter", mqtt.ReceiverConfig{Group: "a/b"}, "cannot stand in a topic"},
		{"too many at once", mqtt.ReceiverConfig{ReceiveMaximum: 5000}, "receive maximum 5000"},
		{"negative expiry", mqtt.ReceiverConfig{SessionExpiry: -1}, "session expiry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.URL = "mqtt://b"
			if _, err := mqtt.NewReceiver(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewReceiver: %v, want %q", err, tt.want)
			}
		})
	}
}

// What a receiver asks of a server that speaks MQTT 5.
func TestReceiverAsks(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cfg     mqtt.ReceiverConfig
		expiry  uint32
		receive uint16
		topic   string
	}{
		{"by default", mqtt.ReceiverConfig{}, 7 * 24 * 3600, 256, "ea/v1/+/+/d/+"},
		{"in a group", mqtt.ReceiverConfig{Group: "g", ReceiveMaximum: 20}, 300, 20, "$share/g/ea/v1/+/+/d/+"},
		{"as configured", mqtt.ReceiverConfig{SessionExpiry: time.Hour, Subscribe: []string{"x", "x"}}, 3600, 256, "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex // guards what follows
				connects := map[string]*packets.Connect{}
				topic := ""
				s := five(func(p *peer5) {
					c := p.login(0, packets.Properties{})
					mu.Lock()
					connects[c.ClientID] = c
					mu.Unlock()
					pk, ok := p.read()
					if !ok {
						return
					}
					if sub, ok := pk.Content.(*packets.Subscribe); ok {
						topic = sub.Subscriptions[0].Topic
						ack := packets.Suback{PacketID: sub.PacketID, Reasons: []byte{1}, Properties: &packets.Properties{}}
						_, _ = ack.WriteTo(p)
						if len(sub.Subscriptions) > 1 {
							t.Errorf("subscriptions %v", sub.Subscriptions)
						}
					}
					p.swallow()
				})
				tt.cfg.URL, tt.cfg.Dial = "mqtt://broker", s.dial
				r := newReceiver(t, tt.cfg)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_ = r.Run(ctx, func(mqtt.Delivery) {})
				s.wg.Wait()
				data, acks := connects["edgehub"], connects["edgehub-acks"]
				if data == nil || acks == nil {
					t.Fatalf("logins %v", connects)
				}
				if p := data.Properties; data.CleanStart || *p.SessionExpiryInterval != tt.expiry || *p.ReceiveMaximum != tt.receive || topic != tt.topic {
					t.Errorf("clean %v, expiry %d, receive maximum %d, topic %s", data.CleanStart, *p.SessionExpiryInterval, *p.ReceiveMaximum, topic)
				}
				if !acks.CleanStart || *acks.Properties.SessionExpiryInterval != 0 {
					t.Errorf("the connection for acks keeps a session: %+v", acks)
				}
			})
		})
	}
}

// A server without shared subscriptions would give each worker everything.
func TestNoSharedSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := five(func(p *peer5) { p.login(0, packets.Properties{SharedSubAvailable: new(byte(0))}); p.swallow() })
		r := newReceiver(t, mqtt.ReceiverConfig{URL: "mqtt://broker", Dial: s.dial, Group: "g"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = r.Run(ctx, func(mqtt.Delivery) {})
		s.wg.Wait()
		if got := r.Stats(); got.Connects > 0 || !strings.Contains(got.LastError, "no shared subscriptions") {
			t.Errorf("stats %+v", got)
		}
	})
}

// A receiver that shares with no one makes do with 3.1.1.
func TestReceiverFallsBack(t *testing.T) {
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logins := map[byte]int{}
				s := falls(func(p *peer) { _, _ = p.Write([]byte{0x20, 2, 0, 1}) }, logins)
				r := newReceiver(t, mqtt.ReceiverConfig{URL: "mqtt://broker", Dial: s.dial, Group: group})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_ = r.Run(ctx, func(mqtt.Delivery) {})
				s.wg.Wait()
				// The server of this test answers no subscription, so that is how far it gets.
				if old := logins[4] > 0; old != (group == "") || logins[5] == 0 {
					t.Errorf("logins by version %v", logins)
				}
			})
		})
	}
}

// The server's word on a publication comes back, and one that never comes ends the
// connection.
func TestReceiverPublish5(t *testing.T) {
	for _, tt := range []struct {
		name   string
		code   int // -1: none
		want   string
		within time.Duration
	}{
		{"accepted", 0, "", time.Second},
		{"nobody listens", 0x10, "", time.Second},
		{"refused", 0x87, "not authorized (0x87)", time.Second},
		{"never answered", -1, "no acknowledgement within 20s", 21 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := five(func(p *peer5) {
					p.login(0, packets.Properties{})
					for {
						pk, ok := p.read()
						if !ok {
							return
						}
						switch pk := pk.Content.(type) {
						case *packets.Subscribe:
							ack := packets.Suback{PacketID: pk.PacketID, Reasons: []byte{1}, Properties: &packets.Properties{}}
							_, _ = ack.WriteTo(p)
						case *packets.Pingreq:
							_, _ = packets.NewControlPacket(packets.PINGRESP).WriteTo(p)
						case *packets.Publish:
							if tt.code >= 0 {
								p.puback(pk.PacketID, byte(tt.code), "")
							}
						}
					}
				})
				r := newReceiver(t, mqtt.ReceiverConfig{URL: "mqtt://broker", Dial: s.dial})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { _ = r.Run(ctx, func(mqtt.Delivery) {}) })
				synctest.Wait()
				began := time.Now()
				err := r.Publish(ctx, "t", []byte("x"))
				if took := time.Since(began); took > tt.within {
					t.Errorf("it took %v", took)
				}
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("publish: %v, want %q", err, tt.want)
				}
				cancel()
				wg.Wait()
				s.wg.Wait()
			})
		})
	}
}

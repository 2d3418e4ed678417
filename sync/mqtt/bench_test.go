package mqtt_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// counted is a handler that counts results.
type counted struct{ results atomic.Int64 }

func (c *counted) Up(uplink.Caps)       {}
func (c *counted) Ack([]byte)           {}
func (c *counted) Result(uplink.Result) { c.results.Add(1) }

// BenchmarkSend sends at QoS 1 to the broker in the process; the raw case is the
// library alone with a window of the same size.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{200, 4 << 10, 32 << 10} {
		b.Run(fmt.Sprintf("3.1.1/%d", size), func(b *testing.B) { benchTransport(b, size, uplink.ProtocolMQTT3) })
		b.Run(fmt.Sprintf("5/%d", size), func(b *testing.B) { benchTransport(b, size, uplink.ProtocolMQTT5) })
		b.Run(fmt.Sprintf("raw/%d", size), func(b *testing.B) { benchRaw(b, size) })
	}
}

func benchBroker(b *testing.B) *broker.Broker {
	br := broker.New(broker.Options{})
	if err := br.Listen(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = br.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	return br
}

func benchTransport(b *testing.B, size int, protocol string) {
	br := benchBroker(b)
	tr, err := mqtt.New(uplink.LinkConfig{URL: br.URL(), Protocol: protocol}, mqtt.Options{Device: "gw1"})
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, size)
	h := &counted{}
	ctx, cancel := context.WithCancel(context.Background())
	b.SetBytes(int64(size))
	b.ReportAllocs()
	_ = tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
		defer cancel()
		for i := uint64(1); b.Loop(); i++ {
			if err := s.Send(ctx, uplink.Message{ID: i, Lane: uplink.LaneBacklog, Payload: payload}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	if unanswered := int64(b.N) - h.results.Load(); unanswered > 64 {
		b.Errorf("%d messages without a result, the window is 64", unanswered)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

func benchRaw(b *testing.B, size int) {
	br := benchBroker(b)
	c := paho.NewClient(paho.NewClientOptions().AddBroker(br.URL()).SetClientID("raw").SetAutoReconnect(false))
	if t := c.Connect(); t.Wait() && t.Error() != nil {
		b.Fatal(t.Error())
	}
	defer c.Disconnect(250)
	payload := make([]byte, size)
	flight := make(chan paho.Token, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for t := range flight {
			t.Wait()
		}
	}()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		flight <- c.Publish("ea/v1/default/gw1/d/backlog", 1, false, payload)
	}
	close(flight)
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

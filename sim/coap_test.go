package sim

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sim/bus"
	"github.com/edgeagent/edgeagent/sync/coap"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// TestFailoverToCoAP: a destination whose broker is cut off goes on over CoAP where it
// was, with one cursor: the same hub gets every reading, and none is given a second
// number.
func TestFailoverToCoAP(t *testing.T) {
	t.Parallel()
	r := newRestored(t, func(in hub.Input) hub.Input { return in })
	l, err := coap.Listen(t.Context(), coap.ListenConfig{URL: "coap://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	in, err := coap.NewReceiver(coap.ReceiverConfig{Listeners: []coap.Listener{l}})
	if err != nil {
		t.Fatal(err)
	}
	stop := r.background(func(ctx context.Context) error { return r.hub.Run(ctx, in) })
	t.Cleanup(stop)
	links := &r.cfg.Destinations[0].Links
	*links = append(*links, uplink.LinkConfig{URL: l.String()})

	a, err := agent.New(agent.Options{
		Config: r.cfg, Logger: slog.New(slog.DiscardHandler), Clock: clock.System(clock.Trusted, time.Time{}),
		I2C: bus.New(bus.NewBME280(0x76, bus.Since(bus.Greenhouse{}.At))).Open, FlushOnStop: time.Minute,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if network == "udp" {
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			return r.link.DialContext(ctx, network, addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	over := func(scheme string, n uint64) func() bool {
		return func() bool {
			s := a.Status(ctx)
			return len(s.Uplinks) == 1 && strings.HasPrefix(s.Uplinks[0].Link, scheme) && s.Uplinks[0].Confirmed >= n
		}
	}
	r.until("readings over MQTT", over("mqtt://", 50))
	r.link.Cut()
	r.until("readings over CoAP", over("coap://", 150))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	missing := 0
	r.mu.Lock()
	defer r.mu.Unlock()
	for x := range r.stored() {
		if !r.rows[x] {
			missing++
		}
	}
	if s := in.Stats(); missing > 0 || s.Delivered == 0 || s.Acks == 0 {
		t.Errorf("%d readings are not at the hub; the CoAP end %+v", missing, s)
	}
	if devices := r.hub.Stats().Devices; len(devices) != 1 || len(devices[0].Epochs) != 1 {
		t.Errorf("the hub knows %+v, want one device with one epoch", devices)
	}
}

//go:build system

package sim

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sim/bus"
	"github.com/edgeagent/edgeagent/sync/coap"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// TestFigureBacklogOverDTLS: 10,000 readings that were taken while the hub was away
// arrive whole over DTLS at a loss of 20 % each way.
func TestFigureBacklogOverDTLS(t *testing.T) {
	r := newRestored(t, func(in hub.Input) hub.Input { return in })
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := coap.Listen(t.Context(), coap.ListenConfig{URL: "coaps://127.0.0.1:0", Keys: func(string) []byte { return []byte("secret") }})
	if err != nil {
		t.Fatal(err)
	}
	in, err := coap.NewReceiver(coap.ReceiverConfig{Listeners: []coap.Listener{l}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.background(func(ctx context.Context) error { return r.hub.Run(ctx, in) }))
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	relay := faultnet.NewRelay(front, l.String()[len("coaps://"):], 1)
	away, loss := faultnet.Faults{Blackhole: true}, faultnet.Faults{Drop: 0.2}
	relay.Set(faultnet.Up, away)
	t.Cleanup(r.background(relay.Run))
	d := &r.cfg.Destinations[0]
	d.Links = []uplink.LinkConfig{{URL: "coaps://" + front.LocalAddr().String(), Username: "gw", Password: edgeagent.NewSecret("secret")}}
	d.Reconnect = uplink.ReconnectConfig{Base: 100 * time.Millisecond, Cap: time.Second}
	for _, name := range []string{"s2", "s3", "s4"} {
		s := r.cfg.Sensors[0]
		s.Name = name
		r.cfg.Sensors = append(r.cfg.Sensors, s)
	}

	a, err := agent.New(agent.Options{
		Config: r.cfg, Logger: slog.New(slog.DiscardHandler), Clock: clock.System(clock.Trusted, time.Time{}),
		I2C: bus.New(bus.NewBME280(0x76, bus.Since(bus.Greenhouse{}.At))).Open,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	wait := func(what string, ready func() bool) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for limit := time.After(4 * time.Minute); !ready(); {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("waited in vain for %s: %+v", what, a.Status(ctx).Uplinks)
			}
		}
	}
	wait("10,000 readings", func() bool { return a.Status(ctx).Buffer.Appended >= 10_000 })
	relay.Set(faultnet.Up, loss)
	relay.Set(faultnet.Down, loss)
	began := time.Now()
	wait("them to be confirmed", func() bool { return a.Status(ctx).Uplinks[0].Confirmed >= 10_000 })
	t.Logf("10,000 readings confirmed %v after the hub was back", time.Since(began).Round(100*time.Millisecond))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	held, missing := 0, 0
	r.mu.Lock()
	defer r.mu.Unlock()
	for x := range r.stored() {
		if r.rows[x] {
			held++
		} else {
			missing++
		}
	}
	if held < 10_000 || len(r.rows) < 10_000 {
		t.Errorf("the hub holds %d of %d readings", held, held+missing)
	}
}

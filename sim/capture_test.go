package sim

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

const captureConfig = `
version: 1
device: {id: gw-7}
sensors:
  - {name: numbers, driver: replay, file: numbers.csv, metric: n, pace: 400/s}
buffer: {dir: buffer}
rules: {files: [rules.yaml]}
api: {socket: /dev/null/none.sock}
destinations:
  - name: cloud
    receiver: hub
    links: [{url: "%s"}]
    linger: 10ms
`

const captureRules = `
version: 1
rules:
  - id: high
    inputs: {n: numbers/n}
    when: n > 200
    do: [{alert: {capture: {before: 250ms, after: 200ms}}}]
`

// sample is one reading, wherever it was met.
type sample struct {
	Series string
	Time   int64
	Value  float64
}

// TestCaptureReachesTheHub: a rule fires, and the hub gets the raw readings from
// before and after, exactly those that it gets as telemetry.
func TestCaptureReachesTheHub(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var csv strings.Builder
	csv.WriteString("time,value\n")
	for i := 1; i <= 400; i++ {
		fmt.Fprintf(&csv, "%d,%d\n", i, i)
	}
	for name, text := range map[string]string{"numbers.csv": csv.String(), "rules.yaml": captureRules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	b := broker.New(broker.Options{Logger: log})
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Parse(filepath.Join(dir, "agent.yaml"), fmt.Appendf(nil, captureConfig, b.URL()), configs.Options{Drivers: agent.Drivers()})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := agent.New(agent.Options{Config: cfg, Clock: clock.System(clock.Trusted, time.Time{}), FlushOnStop: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := mqtt.NewReceiver(mqtt.ReceiverConfig{URL: b.URL(), ClientID: "hub", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{})
	var once sync.Once
	sink := hub.NewMemory(hub.MemoryOptions{Keep: 1000, OnCommit: func(c hub.Cut, _ time.Time) {
		if c.Stream == edgeagent.StreamEvent {
			once.Do(func() { close(came) })
		}
	}})
	h, err := hub.New(hub.Options{Name: "hub", Sink: sink, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	cloud, stopCloud := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(t.Context())
	var cloudRuns, agentRuns sync.WaitGroup
	cloudRuns.Go(func() { _ = b.Run(cloud) })
	cloudRuns.Go(func() { _ = h.Run(cloud, receiver) })
	agentRuns.Go(func() {
		if err := gateway.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-came:
	case <-time.After(2 * time.Minute):
		t.Error("no capture came")
	}
	stop()
	agentRuns.Wait()
	stopCloud()
	cloudRuns.Wait()
	compareCapture(t, sink.Last())
}

// compareCapture holds what is in captures against the telemetry.
func compareCapture(t *testing.T, records []hub.Stored) {
	t.Helper()
	telemetry := map[edgeagent.Seq]sample{}
	var captured []sample
	var alarm string
	for _, s := range records {
		switch {
		case s.Stream == edgeagent.StreamAlarm && s.Event.Attrs["state"] == edgeagent.AlarmFiring:
			alarm = s.Event.ID
		case s.Stream == edgeagent.StreamTelemetry:
			telemetry[s.Row.Seq] = sample{s.Row.Series.String(), s.Row.Time, s.Row.Value}
		case s.Stream == edgeagent.StreamEvent:
			var d block.Decoder
			device, rs, err := d.Capture(nil, s.Event.Data)
			if err != nil || device != "gw-7" || s.Event.Kind != edgeagent.KindCapture || s.Event.N != 1 {
				t.Fatalf("event %v of %q: %v", s.Event, device, err)
			}
			for _, r := range rs {
				captured = append(captured, sample{r.Series.String(), r.At.Wall, r.Value})
			}
			if s.Event.ID == "" || s.Event.ID != alarm {
				t.Errorf("the capture is of %q, the alarm %q", s.Event.ID, alarm)
			}
		}
	}
	if len(captured) < 20 || captured[0].Value > 195 || captured[len(captured)-1].Value < 205 {
		t.Fatalf("captured %v", captured)
	}
	var want []sample
	for i := range captured {
		want = append(want, telemetry[edgeagent.Seq(int(captured[0].Value)+i)])
	}
	if diff := cmp.Diff(want, captured); diff != "" {
		t.Errorf("captured (-telemetry +capture):\n%s", diff)
	}
}

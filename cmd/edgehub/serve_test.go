package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub/web"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

// served is a hub in this process.
type served struct {
	*assembly
	page string
	stop func() error
}

// serveIn starts a hub on the state directory dir.
func serveIn(t *testing.T, dir string) *served {
	t.Helper()
	c := defaultConfig()
	c.Version, c.State, c.Broker.Listen, c.HTTP.Listen = 1, dir, "127.0.0.1:0", "127.0.0.1:0"
	a, err := assemble(t.Context(), c, io.Discard, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, up := make(chan error, 1), make(chan string, 1)
	go func() { done <- a.run(ctx, func(page string) { up <- page }) }()
	s := &served{assembly: a}
	stopped := false
	s.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		err := <-done
		if cerr := a.close(); err == nil {
			err = cerr
		}
		return err
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	select {
	case s.page = <-up:
	case err := <-done:
		t.Fatalf("hub ended: %v", err)
	}
	for _, in := range a.source.inputs { // a broker keeps nothing for a hub that it has never seen
		for !in.state().Connected {
			wait()
		}
	}
	return s
}

// cli runs a command against a hub and returns what it prints.
func cli(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("edgehub %s: exit %d: %s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

// publisher is a gateway that publishes by hand.
func publisher(t *testing.T, b *broker.Broker) *mqtt.Receiver {
	t.Helper()
	r, err := mqtt.NewReceiver(mqtt.ReceiverConfig{URL: b.URL(), ClientID: "gw", Subscribe: []string{"ea/v1/default/gw-7/ack"}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestServe: what a gateway publishes can be listed, asked for and seen, also after the
// hub has begun anew.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	s := serveIn(t, dir)
	names, readings := sample(t)
	var e block.Encoder
	later, err := e.Readings(nil, block.ID{Stream: edgeagent.StreamTelemetry, Epoch: 9, First: 5, Run: 3, Resolution: 6},
		[]block.Row{{Series: 1, Time: 1772323204_000000000, Value: 25.5, Quality: edgeagent.Suspect}})
	if err != nil {
		t.Fatal(err)
	}
	acks := make(chan edgeagent.Ack, 100)
	ctx, cancel := context.WithCancel(t.Context())
	gw := publisher(t, s.broker)
	done := make(chan error, 1)
	go func() {
		done <- gw.Run(ctx, func(d mqtt.Delivery) {
			if a, err := edgeagent.ParseAck(d.Payload); err == nil {
				acks <- a
			}
			d.Ack()
		})
	}()
	for !gw.Stats().Connected {
		wait()
	}
	for _, m := range [][]byte{append(bytes.Clone(names), readings...), readings, later, []byte("no block")} {
		if err := gw.Publish(t.Context(), "ea/v1/default/gw-7/d/live", m); err != nil {
			t.Fatal(err)
		}
	}
	for held := uint64(0); held < 2; {
		held = (<-acks).Have[edgeagent.StreamTelemetry].Count()
	}

	check := func() {
		t.Helper()
		got := cli(t, "devices", "--state", dir)
		if !strings.Contains(got, "gw-7") || !strings.Contains(got, "incomplete") {
			t.Errorf("devices:\n%s", got)
		}
		var gaps []web.Gap
		if err := json.Unmarshal([]byte(cli(t, "gaps", "--state", dir, "--json")), &gaps); err != nil || len(gaps) != 1 || gaps[0].From != 2 || gaps[0].To != 4 {
			t.Errorf("gaps %+v, %v", gaps, err)
		}
		want := "time_ns,series,value,quality,tags\n1772323200000000000,boiler/t,21.5,good,\n1772323204000000000,boiler/t,25.5,suspect,\n"
		if got := cli(t, "query", "--state", dir, "--device", "gw-7", "--series", "boiler/t", "--csv"); got != want {
			t.Errorf("query:\n%s", got)
		}
		want = `{"t":"2026-03-01T00:00:04.000000000Z","value":25.5,"q":"suspect"}` + "\n"
		if got := cli(t, "query", "--url", s.page, "--device", "gw-7", "--series", "boiler/t", "--since", "2026-03-01T00:00:01Z", "--json"); got != want {
			t.Errorf("query by address:\n%s", got)
		}
		if got := cli(t, "query", "--state", dir, "--device", "gw-7"); !strings.Contains(got, "boiler/t  25.5") {
			t.Errorf("series:\n%s", got)
		}
		if got := cli(t, "replay", "--state", dir, "--device", "gw-7", "--all"); got != "asked for 3 records\n" {
			t.Errorf("replay: %s", got)
		}
	}
	check()
	for a := range acks {
		if len(a.Replay[edgeagent.StreamTelemetry]) > 0 {
			break
		}
	}
	if got := cli(t, "devices", "--state", dir, "--json"); !strings.Contains(got, `"device": "gw-7"`) {
		t.Errorf("devices as JSON: %s", got)
	}
	st := s.source.Status(t.Context())
	if st.Health != edgeagent.Degraded || st.Quarantined["format"] != 1 || st.Records != 2 || st.Resent != 1 {
		t.Errorf("status %+v", st)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = serveIn(t, dir)
	check()
}

func wait() { <-time.After(5 * time.Millisecond) }

// TestTwoHubsOnOneState: the second says so and ends.
func TestTwoHubsOnOneState(t *testing.T) {
	dir := t.TempDir()
	serveIn(t, dir)
	c := defaultConfig()
	c.State, c.Broker.Listen, c.HTTP.Listen = dir, "127.0.0.1:0", "127.0.0.1:0"
	a, err := assemble(t.Context(), c, io.Discard, false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if err := a.run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "another edgehub answers") {
		t.Errorf("%v", err)
	}
}

func TestNoHub(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"devices", "--state", filepath.Join(t.TempDir(), "nowhere")}, &out, &errs)
	if code != 1 || !strings.Contains(errs.String(), `hint: start one with "edgehub serve"`) {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	for _, args := range [][]string{
		{"query"},
		{"replay"},
		{"query", "--device", "x", "--since", "soon"},
		{"query", "--device", "x", "--json", "--csv"},
		{"devices", "--url", "hub"},
		{"serve", "--sink", "oracle"},
		{"serve", "--listen", ":1"},
		{"ingest", "--sink", "sqlite"},
	} {
		if code := run(t.Context(), args, &out, &errs); code != 2 {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

// TestPrintable: names from afar do not steer the terminal.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"gw-1": "gw-1", "größe °C": "größe °C", "\x1b[2J": `"\x1b[2J"`, "a\nb": `"a\nb"`} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %s, want %s", in, got, want)
		}
	}
}

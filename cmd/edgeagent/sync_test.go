package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/linkcheck"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// cloud is a broker and a hub behind it.
type cloud struct {
	url  string
	sink *hub.Memory
	hub  *hub.Hub
}

func runCloud(t *testing.T) cloud {
	t.Helper()
	b := broker.New(broker.Options{})
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	receiver, err := mqtt.NewReceiver(mqtt.ReceiverConfig{URL: b.URL(), ClientID: "hub", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	sink := hub.NewMemory(hub.MemoryOptions{})
	h, err := hub.New(hub.Options{Name: "hub", Sink: sink, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })
	wg.Go(func() { _ = h.Run(ctx, receiver) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	waitFor(t, "the hub", func() bool { return receiver.Stats().Connected })
	return cloud{b.URL(), sink, h}
}

// writeConfig writes a gateway with one sensor and the given destinations.
func writeConfig(t *testing.T, dir, destinations string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf(`version: 1
device: {id: gw-17}
sensors: [{name: load, driver: load, interval: 100ms}]
buffer: {dir: buffer}
api: {socket: %s}
destinations:
%s`, filepath.Join(dir, "agent.sock"), destinations)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ea")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A hub answers the check, beside a running agent and without it, and is none the
// wiser: nothing is stored, and nothing is missing afterwards.
func TestSyncCheckEndToEnd(t *testing.T) {
	c := runCloud(t)
	dir := shortDir(t)
	config := writeConfig(t, dir, fmt.Sprintf("  - {name: cloud, receiver: hub, links: [{url: %q}]}\n", c.url))
	look := func() checkReport {
		t.Helper()
		code, out, stderr := edge(t, "sync", "check", "-c", config, "--json")
		var r checkReport
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
			t.Fatalf("exit %d, %v\n%s%s", code, err, out, stderr)
		}
		return r
	}
	r := look()
	if l := r.Destinations[0].Links[0]; l.Proven != "receiver" || l.ClientID != "edgeagent-default-gw-17-check" {
		t.Errorf("%+v", l)
	}
	if n := c.sink.Count(); n != 0 {
		t.Errorf("the check stored %d records", n)
	}
	stop := runAgent(t, config)
	waitFor(t, "readings", func() bool { return c.sink.Count() > 2 })
	before := c.sink.Count()
	if r := look(); r.State != linkcheck.OK {
		t.Errorf("beside a running agent: %+v", r)
	}
	waitFor(t, "more readings", func() bool { return c.sink.Count() > before })
	if code, out, stderr := edge(t, "sync", "flush", "--socket", filepath.Join(dir, "agent.sock")); code != 0 || !strings.Contains(out, "cloud: everything is confirmed") {
		t.Errorf("flush: exit %d\n%s%s", code, out, stderr)
	}
	var s api.Status
	if err := json.Unmarshal([]byte(mustEdge(t, "status", "--json", "--socket", filepath.Join(dir, "agent.sock"))), &s); err != nil {
		t.Fatal(err)
	}
	if u := s.Uplinks[0]; u.Connects != 1 {
		t.Errorf("the agent connected %d times", u.Connects)
	}
	stop()
	if gaps, held := c.hub.Gaps(), c.hub.Quarantine(); len(gaps)+len(held) > 0 {
		t.Errorf("gaps %v, quarantine %v", gaps, held)
	}
}

func TestSyncCheckExitCodes(t *testing.T) {
	b := runCloud(t)
	const closed = "mqtt://127.0.0.1:1" // nobody listens there
	one := func(name string, urls ...string) string {
		var links []string
		for _, u := range urls {
			links = append(links, fmt.Sprintf("{url: %q}", u))
		}
		return fmt.Sprintf("  - {name: %s, links: [%s]}\n", name, strings.Join(links, ", "))
	}
	for name, tc := range map[string]struct {
		destinations string
		args         []string
		code         int
		out          []string
		err          string
	}{
		"all work":          {one("a", b.url), nil, 0, []string{"a: ok: the broker takes messages; that anybody receives them is not proven (ack: transport)"}, ""},
		"one link of two":   {one("a", closed, b.url), nil, 3, []string{"a (link 1 of 2)", "FAIL  tcp", "hint: nothing listens on port 1", "a: warning: ", "by 1 of 2 links"}, ""},
		"none works":        {one("a", closed) + one("b", b.url), nil, 1, []string{"a: failed: nothing gets through", "b: ok"}, ""},
		"only the good one": {one("a", closed) + one("b", b.url), []string{"b"}, 0, []string{"b: ok"}, ""},
		"unknown name":      {one("a", b.url), []string{"c"}, 1, nil, `there is no destination "c"`},
		"no destination":    {"", nil, 1, nil, "no destination"},
		"too many names":    {one("a", b.url), []string{"a", "b"}, 2, nil, "accepts at most 1"},
	} {
		t.Run(name, func(t *testing.T) {
			config := writeConfig(t, t.TempDir(), tc.destinations)
			code, out, stderr := edge(t, append([]string{"sync", "check", "-c", config, "--timeout", "5s"}, tc.args...)...)
			if code != tc.code || !strings.Contains(stderr, tc.err) || tc.err == "" && stderr != "" {
				t.Errorf("exit %d, want %d\n%s%s", code, tc.code, out, stderr)
			}
			for _, want := range tc.out {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}

func TestSyncFlushWithoutLink(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "agent.sock")
	stop := runAgent(t, writeConfig(t, dir, "  - {name: cloud, links: [{url: \"mqtt://127.0.0.1:1\"}]}\n"))
	defer stop()
	held := func() uint64 {
		var s api.Status
		code, out, _ := edge(t, "status", "--json", "--socket", socket)
		if code == exitFailed || json.Unmarshal([]byte(out), &s) != nil || len(s.Uplinks) == 0 || s.Uplinks[0].LastError == "" {
			return 0
		}
		return s.Uplinks[0].Backlog
	}
	waitFor(t, "a backlog", func() bool { return held() > 1 })
	code, out, stderr := edge(t, "sync", "flush", "--timeout", "50ms", "--socket", socket, "--json")
	var r api.Flush
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFailed {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, stderr)
	}
	if d := r.Destinations[0]; r.OK || d.OK || d.Left == 0 || d.ByStream[edgeagent.StreamTelemetry] == 0 || !strings.Contains(d.Error, "refused") {
		t.Errorf("%+v", r)
	}
	if code, _, _ := edge(t, "sync", "flush", "--timeout", "2h"); code != exitUsage {
		t.Errorf("exit %d for a timeout out of range", code)
	}
}

// TestSyncScreens holds what people and programs see against golden files.
func TestSyncScreens(t *testing.T) {
	steps := []checkedStep{
		{linkcheck.StepDNS, linkcheck.OK, 0.0031, "broker.example is 192.0.2.7", ""},
		{linkcheck.StepTCP, linkcheck.OK, 0.021, "connected to 192.0.2.7:8883", ""},
		{linkcheck.StepTLS, linkcheck.Warning, 0.048, "TLS 1.3, certificate valid until 2026-12-01", "renew the broker's certificate: links stop working when it ends"},
		{linkcheck.StepLogin, linkcheck.OK, 0.025, "MQTT 3.1.1 as edgeagent-default-gw-17-check", ""},
		{linkcheck.StepSubscribe, linkcheck.OK, 0.022, "ea/v1/default/gw-17/ack", ""},
		{linkcheck.StepPublish, linkcheck.OK, 0.0001, "ea/v1/default/gw-17/d/+", ""},
		{linkcheck.StepAck, linkcheck.OK, 0.02, "4 messages", ""},
		{linkcheck.StepReceiver, linkcheck.Failed, 10, `no answer of "hub" within 10s`, "check that the receiver runs"},
	}
	failed := checkedLink{
		destination: "cloud", number: 1, of: 2, Link: "mqtts://broker.example:8883", ClientID: "edgeagent-default-gw-17-check",
		State: linkcheck.Failed, Proven: "broker", Steps: steps,
	}
	good := failed
	good.number, good.Link, good.State, good.Proven = 2, "mqtt://192.0.2.9:1883", linkcheck.OK, "receiver"
	good.Steps = []checkedStep{steps[1], {linkcheck.StepPublish, linkcheck.Skipped, 0, "", ""}}
	report := checkReport{
		State: linkcheck.Warning, Time: api.At(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)),
		Destinations: []checkedDestination{{Name: "cloud", Format: "block", Ack: uplink.AckEndToEnd, State: linkcheck.Warning, Links: []checkedLink{failed, good}}},
	}
	flush := api.Flush{OK: false, Took: 60.2, Destinations: []api.FlushDestination{
		{Name: "cloud", OK: true, State: "up", Held: 1204, Confirmed: 1210, ByStream: map[edgeagent.Stream]uint64{}},
		{
			Name: "plant", State: "backoff", Held: 900, Left: 912, ByStream: map[edgeagent.Stream]uint64{edgeagent.StreamTelemetry: 900, edgeagent.StreamAlarm: 12},
			Error: "not connected to mqtt://192.0.2.9:1883: no answer within 15s", Hint: `look at the link with "edgeagent sync check plant"`,
		},
	}}
	for name, show := range map[string]func(io.Writer) error{
		"check.txt": func(w io.Writer) error {
			for _, l := range report.Destinations[0].Links {
				if err := renderLink(w, l); err != nil {
					return err
				}
			}
			return renderVerdict(w, report)
		},
		"check.json": func(w io.Writer) error { return printJSON(w, report) },
		"flush.txt":  func(w io.Writer) error { return renderFlush(w, flush) },
		"flush.json": func(w io.Writer) error { return printJSON(w, flush) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := show(&out); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "sync", name), out.Bytes())
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestDestinationState(t *testing.T) {
	const ok, warn, fail = linkcheck.OK, linkcheck.Warning, linkcheck.Failed
	for _, tc := range []struct {
		links []linkcheck.State
		want  linkcheck.State
	}{
		{[]linkcheck.State{ok}, ok},
		{[]linkcheck.State{ok, warn}, warn},
		{[]linkcheck.State{fail, ok}, warn},
		{[]linkcheck.State{fail, warn}, warn},
		{[]linkcheck.State{fail, fail}, fail},
	} {
		var links []checkedLink
		for _, s := range tc.links {
			links = append(links, checkedLink{State: s})
		}
		if got := destinationState(links); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.links, got, tc.want)
		}
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// quickBench is a bench that takes a second or two.
func quickBench(url string) syncBenchOptions {
	return syncBenchOptions{
		upstream: url, format: uplink.FormatBlock, root: "ea-bench/v1", readings: 20_000, rounds: 1,
		each: 200 * time.Millisecond, shaped: true, pause: 20 * time.Millisecond, after: 200 * time.Millisecond, linger: 20 * time.Millisecond,
	}
}

func TestSyncBench(t *testing.T) {
	for format, protocol := range map[string]string{uplink.FormatBlock: uplink.ProtocolMQTT5, uplink.FormatLine: uplink.ProtocolMQTT3} {
		t.Run(format, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			c := runCloud(t)
			o := quickBench(c.url)
			o.format, o.protocol, o.shaped = format, protocol, format == uplink.FormatBlock
			if err := o.check(); err != nil {
				t.Fatal(err)
			}
			r, err := runSyncBench(t.Context(), o, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			measured(t, r)
			if n := c.sink.Count(); n != 0 {
				t.Errorf("the hub beside it stored %d records", n)
			}
			if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// measured: each figure is there, and none is absurd.
func measured(t *testing.T, r *syncBenchReport) {
	t.Helper()
	least := map[string]float64{"block": 0.1, "line": 20}[r.Format]
	if r.WireBytes < least || r.WireBytes > 200 {
		t.Errorf("%v bytes a reading", r.WireBytes)
	}
	for name, v := range map[string]*float64{
		"drain": &r.DrainReadings, "messages": &r.DrainMessages, "raw": &r.RawMessages, "share": &r.ShareOfRaw,
		"first live": r.FirstLive, "live": r.Live,
	} {
		if v == nil || *v <= 0 || *v > 1e9 {
			t.Errorf("%s: %v", name, v)
		}
	}
	if _, known := cpuTime(); known && (r.CPU == nil || *r.CPU <= 0) {
		t.Errorf("processor time %v", r.CPU)
	}
	if _, _, known := memoryOf(); known && (r.RSSGrowth == nil || *r.RSSGrowth < 0) {
		t.Errorf("memory %v", r.RSSGrowth)
	}
	if r.Format != uplink.FormatBlock {
		return // quicker
	}
	if r.RTT50 == nil || *r.RTT50 <= 0 {
		t.Errorf("far away: %v", r.RTT50)
	}
	if s := r.Shaped; s == nil || s.Live == nil || s.LinkUse <= 0 || s.LinkUse > 2 {
		t.Errorf("shaped %+v", s)
	}
}

// A meter counts each record once, however often it is sent, and what is refused not at
// all.
func TestMeter(t *testing.T) {
	m := newMeter(nil, edgeagent.Range{From: 1, To: 30})
	m.began()
	send := func(id uint64, from edgeagent.Seq, n int) {
		m.sent(uplink.Message{ID: id, Payload: make([]byte, 100), Identity: edgeagent.BatchHeader{Stream: edgeagent.StreamTelemetry, First: from, Count: n}})
	}
	send(1, 1, 10)
	send(2, 11, 10)
	m.result(uplink.Result{ID: 1, Class: uplink.Accepted})
	m.result(uplink.Result{ID: 2, Class: uplink.Poison})
	m.began() // another session
	send(1, 11, 25)
	send(2, 36, 10) // nothing that is wanted
	send(3, 1, 10)
	m.result(uplink.Result{ID: 3, Class: uplink.Accepted})
	m.result(uplink.Result{ID: 2, Class: uplink.Accepted})
	if got := m.seen(); got.readings != 10 || len(got.sizes) != 5 || got.bytes != 400 {
		t.Errorf("%+v", got)
	}
	select {
	case <-m.done:
		t.Fatal("done without records 11 to 30")
	default:
	}
	m.result(uplink.Result{ID: 1, Class: uplink.Accepted})
	<-m.done
	if got := m.seen(); got.readings != 30 {
		t.Errorf("%+v", got)
	}
}

// Delays count what is taken after the reset, once, by its own time.
func TestDelays(t *testing.T) {
	d := newDelays(uplink.FormatLine)
	old := time.Now().Add(-time.Minute).UnixNano()
	d.reset()
	line := func(at int64) []byte { return fmt.Appendf(nil, "s value=1 %d\n", at) }
	now := time.Now().UnixNano()
	d.heard("x/d/live", append(line(old), line(now)...))
	d.heard("x/d/live", line(now))
	d.heard("x/d/alarm", line(now+1))
	live, alarm, err := d.p99s()
	if err != nil || live == nil || alarm == nil || *live > 60_000 || len(d.lives) != 1 || len(d.alarm) != 1 {
		t.Errorf("live %v, alarm %v, %v", d.lives, d.alarm, err)
	}
	d.heard("x/d/live", []byte("no time\n"))
	if _, _, err := d.p99s(); err == nil {
		t.Error("what cannot be read goes unnoticed")
	}
	d.errs = nil
	d.during(time.Unix(0, now+1), time.Unix(0, now+5))
	if live, alarm, _ := d.p99s(); live != nil || alarm == nil {
		t.Errorf("in the span: live %v, alarm %v", live, alarm)
	}
	list := make([]time.Duration, 200)
	for i := range list {
		list[i] = time.Duration(i+1) * time.Millisecond
	}
	if got := p99(list); *got != 198 {
		t.Errorf("p99 of 1 to 200 ms is %v", *got)
	}
}

func TestSyncBenchOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"nothing":      {nil, "missing flag --upstream"},
		"format":       {[]string{"--upstream", "mqtt://h", "--format", "json"}, "bad value json for --format"},
		"readings":     {[]string{"--upstream", "mqtt://h", "--readings", "10"}, "bad value 10 for --readings"},
		"scheme":       {[]string{"--upstream", "http://h"}, "unknown scheme"},
		"secret":       {[]string{"--upstream", "mqtt://h", "--username", "u", "--password", "hunter2"}, "--password"},
		"wildcard":     {[]string{"--upstream", "mqtt://h", "--topic-root", "a/#"}, "--topic-root"},
		"no such file": {[]string{"--upstream", "mqtt://h", "--username", "u", "--password", "file:/nowhere"}, "--password"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := edge(t, append([]string{"sync", "bench"}, tc.args...)...)
			if code != exitUsage || out != "" || !strings.Contains(stderr, tc.want) || strings.Contains(stderr, "hunter2") {
				t.Errorf("exit %d\n%s%s", code, out, stderr)
			}
		})
	}
	if code, _, stderr := edge(t, "sync", "bench", "--upstream", "mqtt://127.0.0.1:1"); code != exitFailed || !strings.Contains(stderr, "hint: check --upstream") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
}

// TestSyncBenchScreens holds the report against golden files, and each of its keys
// against the reference.
func TestSyncBenchScreens(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	r := &syncBenchReport{
		Upstream: "mqtt://broker.example", Format: "block", Protocol: "auto", Ack: uplink.AckTransport, Readings: 41_000_000, Messages: 10_012, Rounds: 3, Drains: 22,
		DrainReadings: 71_234_567, DrainMessages: 17_400, RawMessages: 24_012, ShareOfRaw: 0.725,
		FirstLive: f(0.004), Live: f(501.2), LiveDraining: f(120.5), Alarm: f(17.9), WireBytes: 0.957, CPU: f(0.489), RSSGrowth: f(5.25), AnonGrowth: f(4.5), Backlog: 1_000_000,
		Shaped: &syncBenchShaped{Rate: 32_000, Backlog: 1_020_000, Live: f(508), LiveDraining: f(650), Alarm: f(212), LinkUse: 0.917},
		RTT50:  f(2_157_711), Notes: []string{},
	}
	bare := *r
	bare.FirstLive, bare.Live, bare.LiveDraining, bare.Alarm, bare.CPU, bare.RSSGrowth, bare.AnonGrowth, bare.Shaped, bare.RTT50 = nil, nil, nil, nil, nil, nil, nil, nil, nil
	bare.Notes = []string{"delays are not measured: may not subscribe"}
	for name, show := range map[string]func(io.Writer) error{
		"bench.txt":      func(w io.Writer) error { return renderSyncBench(w, r) },
		"bench.json":     func(w io.Writer) error { return printJSON(w, r) },
		"bench-bare.txt": func(w io.Writer) error { return renderSyncBench(w, &bare) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := show(&out); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "sync", name), out.Bytes())
		})
	}
	described(t, "edgeagent sync bench --json", r)
}

// described: every key of a report stands in its section of the reference.
func described(t *testing.T, section string, report any) {
	t.Helper()
	page, err := os.ReadFile("../../docs/reference/cli-json.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## "+section+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(b, &tree); err != nil {
		t.Fatal(err)
	}
	for key, v := range tree {
		names := []string{key}
		if sub, ok := v.(map[string]any); ok {
			for k := range sub {
				names = append(names, key+"."+k)
			}
		}
		for _, name := range names {
			if !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, "`"+name+"[]`") {
				t.Errorf("%s: %s is not described", section, name)
			}
		}
	}
}

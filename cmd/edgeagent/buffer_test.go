package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/api"
)

// edge runs the program.
func edge(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// mustEdge runs the program, which must succeed and say nothing else.
func mustEdge(t testing.TB, args ...string) string {
	t.Helper()
	code, stdout, stderr := edge(t, args...)
	if code != exitOK || stderr != "" {
		t.Fatalf("%v: exit %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

func fixtureTime(s int) api.Time { return api.At(time.Date(2026, 11, 23, 9, 0, s, 5e6, time.UTC)) }

func fixtureSurvey() api.BufferSurvey {
	const old, now = edgeagent.Epoch(0x77aa), edgeagent.Epoch(0x9f02aa5510c4d3e1)
	return api.BufferSurvey{
		Stats: api.BufferStats{
			Dir: "/var/lib/edgeagent/buffer", Device: "gw-17", Epoch: now, Run: 0x9c01f3aa, Bytes: 3_305_472, MaxBytes: 64 << 20,
			Records: 104_302, Segments: 3, Epochs: 2, Runs: 3, Series: 2,
			Streams: map[edgeagent.Stream]api.BufferStream{
				edgeagent.StreamAlarm: {Next: 3, Low: 1, Records: 2, Segments: 1, Bytes: 24_576, BytesPerRecord: 12288, Oldest: fixtureTime(1), Newest: fixtureTime(2)},
				edgeagent.StreamEvent: {Next: 1, Low: 1},
				edgeagent.StreamTelemetry: {
					Next: 4_294_971_393, Low: 1, Records: 104_300, Segments: 2, Bytes: 151_552, BytesPerRecord: 1.45,
					Oldest: fixtureTime(0), Newest: fixtureTime(59),
				},
				edgeagent.StreamRollup: {Next: 1, Low: 1},
			},
			Destinations: []api.BufferDestination{
				{Name: "cloud", Active: true, Unconfirmed: 1206, ByStream: map[edgeagent.Stream]uint64{edgeagent.StreamAlarm: 2, edgeagent.StreamTelemetry: 1204}},
				{Name: "old", Unconfirmed: 104_302, ByStream: map[edgeagent.Stream]uint64{}},
			},
			Gaps:            map[string]api.BufferGapCount{"power_cut": {Ranges: 1}, "evicted": {Ranges: 2, Records: 8192}},
			QuarantineFiles: 1, QuarantineBytes: 1 << 20,
		},
		Segments: []api.BufferSegment{
			{File: "telemetry/00000000000077aa-0000000000000001.seg", Stream: 3, Epoch: old, First: 1, Last: 100_000, Records: 100_000, Bytes: 131_072, Oldest: fixtureTime(0), Newest: fixtureTime(30), State: "confirmed"},
			{File: "telemetry/9f02aa5510c4d3e1-0000000100000001.seg", Stream: 3, Epoch: now, First: 4_294_967_297, Last: 4_294_971_392, Records: 4096, Bytes: 20_480, Oldest: fixtureTime(31), Newest: fixtureTime(59), State: "open"},
			{File: "alarm/9f02aa5510c4d3e1-0000000000000001.seg", Stream: 1, Epoch: now, First: 1, Last: 0, Bytes: 24_576, State: "unused"},
		},
		Gaps: []api.BufferGap{
			{Stream: 3, Epoch: now, From: 1, To: 4_294_967_296, Reason: "power_cut", Oldest: fixtureTime(30), Newest: fixtureTime(31)},
			{Stream: 3, Epoch: old, From: 1, To: 8192, Reason: "expired", AtMost: 8192, Destination: "cloud"},
		},
		Runs: []api.BufferRun{{Stream: 3, Epoch: now, Run: 0x9c01f3aa, First: 4_294_967_297, Last: 4_294_971_392}},
		Series: []api.BufferSeries{
			{Epoch: now, ID: 1, Series: "boiler/temperature", Unit: "Cel", Kind: "gauge", Resolution: 0.001, Tags: map[string]string{"hall": "2"}},
			{Epoch: now, ID: 2, Series: "gate/state", Kind: "state", Resolution: 0.001, Labels: map[string]string{"0": "closed", "1": "open"}},
		},
	}
}

func fixtureVerification() api.BufferVerification {
	return api.BufferVerification{
		Dir: "/var/lib/edgeagent/buffer", Segments: 3, Blocks: 26, Records: 100_204, Bytes: 96_666,
		Problems: []api.BufferProblem{
			{Kind: "damaged", File: "telemetry/9f02aa5510c4d3e1-0000000000000001.seg", Stream: 3, Epoch: 0x9f02aa5510c4d3e1, From: 4097, To: 8192, Text: "corrupt block: checksum differs"},
			{Kind: "hole", Stream: 1, Epoch: 0x9f02aa5510c4d3e1, From: 2, To: 2, Text: "no segment holds them, and the ledger does not say why"},
			{Kind: "state", File: "state.db", Text: "state: file is damaged: bad checksum"},
		},
	}
}

// TestBufferScreens holds what people and programs see against golden files.
func TestBufferScreens(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	s, v := fixtureSurvey(), fixtureVerification()
	running, empty := s.Stats, api.BufferStats{Dir: "/b", Clean: true}
	running.Running, running.MaxBytes = true, 0
	whole := v
	whole.OK, whole.Problems = true, nil
	all := listed{gaps: true, runs: true, series: true}
	bench := benchReport{
		Data: "gateway.csv.gz", Readings: 100_000, Series: 29, Block: 4096, AppendBatch: 100, AppendNs: 12_670.4, AppendAllocs: 1.06,
		Encodings:    []benchEncoding{{"block", 0.957, 32.2, 14.4, 0}, {"json+deflate", 5.95, 1391.1, 1033.2, 1}},
		OpenReadings: 1_000_000, OpenMs: 8.71, Fsyncs: benchFsyncs{100.5, 0.25, 10.06, 0.18}, DeviceReason: "not root",
	}
	measured := bench
	measured.Device, measured.DeviceReason = &benchDevice{412, 12.5, 44.25, 3.75}, ""
	tests := map[string]func(io.Writer) error{
		"stats.txt":         func(w io.Writer) error { return renderBufferStats(w, s.Stats) },
		"stats-running.txt": func(w io.Writer) error { return renderBufferStats(w, running) },
		"stats-empty.txt":   func(w io.Writer) error { return renderBufferStats(w, empty) },
		"stats.json":        func(w io.Writer) error { return printJSON(w, s.Stats) },
		"stats-empty.json":  func(w io.Writer) error { return printJSON(w, empty) },
		"ls.txt":            func(w io.Writer) error { return listed{}.render(w, s) },
		"ls-all.txt":        func(w io.Writer) error { return all.render(w, s) },
		"ls.json":           func(w io.Writer) error { return printJSON(w, listed{}.pick(s)) },
		"ls-all.json":       func(w io.Writer) error { return printJSON(w, all.pick(s)) },
		"ls-empty.json":     func(w io.Writer) error { return printJSON(w, all.pick(api.BufferSurvey{})) },
		"verify.txt":        func(w io.Writer) error { return renderVerification(w, v) },
		"verify.json":       func(w io.Writer) error { return printJSON(w, v) },
		"verify-whole.txt":  func(w io.Writer) error { return renderVerification(w, whole) },
		"verify-whole.json": func(w io.Writer) error { return printJSON(w, whole) },
		"bench.txt":         func(w io.Writer) error { return renderBench(w, &bench) },
		"bench.json":        func(w io.Writer) error { return printJSON(w, measured) },
	}
	for name, show := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := show(&out); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "buffer", name)
			if *update {
				if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("%s differs (run with -update to accept):\n%s", path, diff)
			}
		})
	}
}

// recorded are readings of several series with everything that is hard to write
// down, in the order of their times.
func recorded(n int) []edgeagent.Reading {
	hard := []float64{21.5, math.NaN(), math.Inf(1), math.Inf(-1), 0.1 + 0.2, math.Copysign(0, -1), 5e-324, math.MaxFloat64, 36.806999999999995}
	names := []string{"boiler/temperature", "hall/bme280-00/humidity", "a, b/c d", "lone"}
	out := make([]edgeagent.Reading, n)
	for i := range out {
		sensor, metric := edgeagent.SplitName(names[i%len(names)])
		out[i] = edgeagent.Reading{
			Series:   edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: sensor, Metric: metric, Resolution: edgeagent.DefaultResolution}),
			At:       edgeagent.Instant{Wall: 1_790_000_000_000_000_000 + int64(i)*1e6},
			Value:    hard[i%len(hard)],
			Quality:  edgeagent.Quality(i / 10 % 4),
			Recorded: true,
		}
	}
	return out
}

// stored makes the buffer of a stopped agent.
func stored(t testing.TB, rs []edgeagent.Reading) (dir string) {
	t.Helper()
	return storedWith(t, rs, buffer.Encryption{})
}

func storedWith(t testing.TB, rs []edgeagent.Reading, key buffer.Encryption) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "buffer")
	b, _, err := buffer.Open(t.Context(), dir, buffer.Options{Config: buffer.Config{Encryption: key}, Device: "gw-17"})
	if err != nil {
		t.Fatal(err)
	}
	for len(rs) > 0 {
		n := min(len(rs), 1000)
		if _, err := b.Append(t.Context(), rs[:n]); err != nil {
			t.Fatal(err)
		}
		rs = rs[n:]
	}
	_, err = b.AppendEvents(t.Context(), edgeagent.StreamAlarm, []edgeagent.Event{
		{Kind: "alarm", ID: "hot/boiler/1", Series: "boiler/temperature", Text: "hot", At: edgeagent.Instant{Wall: 1e18}},
		{Kind: "alarm", ID: "wet/hall/1", Series: "hall/bme280-00/humidity", At: edgeagent.Instant{Wall: 1e18}},
	})
	if err := errors.Join(err, b.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	return dir
}

// digest is about everything in a directory that reading could change.
func digest(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, fi.Mode(), fi.Size(), fi.ModTime().UnixNano())
		if e.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		h.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestExportReplays: the driver replay makes of an export what was stored.
func TestExportReplays(t *testing.T) {
	want := recorded(9000)
	dir := stored(t, want)
	before := digest(t, dir)
	file := filepath.Join(t.TempDir(), "export.csv")
	if err := os.WriteFile(file, []byte(mustEdge(t, "buffer", "export", "--dir", dir, "--format", "replay")), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readBench(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d readings of %d came back", len(got), len(want))
	}
	for i, w := range want {
		g, name := got[i], w.Series.String()
		if name == "lone" { // takes the name of the sensor that replays it
			name = "data/lone"
		}
		same := math.Float64bits(g.Value) == math.Float64bits(w.Value) || math.IsNaN(g.Value) && math.IsNaN(w.Value)
		if g.Series.String() != name || g.At.Wall != w.At.Wall || !same {
			t.Fatalf("reading %d is %s %d %v, was %s %d %v", i, g.Series, g.At.Wall, g.Value, name, w.At.Wall, w.Value)
		}
	}
	if digest(t, dir) != before {
		t.Error("export changed the directory")
	}
}

// TestEncryptedBuffer: the commands need the key, and then show what they show of a
// plain buffer.
func TestEncryptedBuffer(t *testing.T) {
	rs := recorded(3000)
	home := t.TempDir()
	file := filepath.Join(home, "buffer.key")
	if err := os.WriteFile(file, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := storedWith(t, rs, buffer.Encryption{KeyFile: file})
	config := filepath.Join(home, "edgeagent.yaml")
	text := "version: 1\nbuffer: {dir: " + strconv.Quote(dir) + ", encryption: {key_file: buffer.key}}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	before := digest(t, dir)
	for _, command := range []string{"stats", "ls", "verify", "export"} {
		code, stdout, stderr := edge(t, "buffer", command, "--dir", dir)
		if code == exitOK || stdout != "" || !strings.Contains(stderr, "is encrypted with key") || !strings.Contains(stderr, "hint: set buffer.encryption.key_file") {
			t.Errorf("%s without the key: exit %d\n%s%s", command, code, stdout, stderr)
		}
		for _, with := range [][]string{{"--dir", dir, "--key-file", file}, {"-c", config}} {
			if out := mustEdge(t, append([]string{"buffer", command}, with...)...); out == "" {
				t.Errorf("%s %v says nothing", command, with)
			}
		}
	}
	if digest(t, dir) != before {
		t.Error("a command changed the directory")
	}
	got := mustEdge(t, "buffer", "export", "--dir", dir, "--key-file", file, "--format", "replay")
	if want := mustEdge(t, "buffer", "export", "--dir", stored(t, rs), "--format", "replay"); got != want {
		t.Error("an encrypted buffer exports something else than a plain one")
	}
}

func TestExportForms(t *testing.T) {
	dir := stored(t, recorded(40))
	export := func(args ...string) []string {
		t.Helper()
		out := mustEdge(t, append([]string{"buffer", "export", "--dir", dir}, args...)...)
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	t.Run("csv", func(t *testing.T) {
		got := export()
		want := []string{
			"time_ns,series,value,quality", "1790000000000000000,boiler/temperature,21.5,good",
			"1790000000001000000,hall/bme280-00/humidity,NaN,good", `1790000000002000000,"a, b/c d",+Inf,good`, "1790000000003000000,lone,-Inf,good",
		}
		if diff := cmp.Diff(want, got[:5]); diff != "" || len(got) != 41 || !strings.HasSuffix(got[11], ",suspect") {
			t.Errorf("%d lines:\n%s", len(got), diff)
		}
	})
	t.Run("series", func(t *testing.T) {
		if got := export("--series", "boiler/*"); len(got) != 11 {
			t.Errorf("%d lines, want 11", len(got))
		}
		if got := export("--series", "*/*/*", "--format", "line"); len(got) != 10 || !strings.HasPrefix(got[0], "hall/bme280-00,device=gw-17 ") {
			t.Errorf("%d lines, first %s", len(got), got[0])
		}
		if got := export("--series", "nothing"); len(got) != 1 {
			t.Errorf("%d lines, want the header", len(got))
		}
	})
	t.Run("numbers survive filters", func(t *testing.T) {
		for i, line := range export("--series", "boiler/*", "--format", "jsonl") {
			var r struct {
				Sensor string
				Seq    int
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if r.Seq != 4*i+1 || r.Sensor != "boiler" {
				t.Errorf("line %d is number %d of %s", i, r.Seq, r.Sensor)
			}
		}
	})
	t.Run("since", func(t *testing.T) {
		at := time.Unix(0, recorded(40)[30].At.Wall).UTC().Format(time.RFC3339Nano)
		if got := export("--since", at, "--format", "line"); len(got) != 10 {
			t.Errorf("%d lines, want 10", len(got))
		}
		if got := export("--since", "0s"); len(got) != 1 && time.Now().UnixNano() > 1_790_000_000_100_000_000 {
			t.Errorf("%d lines, want the header", len(got))
		}
	})
	t.Run("alarms", func(t *testing.T) {
		if got := export("--stream", "alarm", "--format", "jsonl"); len(got) != 2 || !strings.Contains(got[1], `"id":"wet/hall/1"`) {
			t.Errorf("%v", got)
		}
		got := export("--stream", "alarm", "--format", "jsonl", "--series", "hall/*/*")
		if len(got) != 1 || !strings.Contains(got[0], `"seq":2}`) {
			t.Errorf("%v", got)
		}
	})
}

// TestBufferOfARunningAgent: asked over the socket or read from the files, it is
// the same buffer.
func TestBufferOfARunningAgent(t *testing.T) {
	root := t.TempDir()
	sock, err := os.MkdirTemp("", "ea") // socket paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sock) })
	var csv strings.Builder
	csv.WriteString("time_ns,series,value\n")
	for i := range 20_000 {
		fmt.Fprintf(&csv, "%d,hall/m%d,%d.5\n", 1_790_000_000_000_000_000+int64(i)*1e6, i%5, i)
	}
	config := filepath.Join(root, "agent.yaml")
	text := `version: 1
device: {id: gw-17}
sensors: [{name: rec, driver: replay, file: rec.csv, pace: max, stamp: recorded}]
buffer: {dir: buffer}
api: {socket: ` + filepath.Join(sock, "s") + `}
`
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(filepath.Join(root, "rec.csv"), []byte(csv.String()), 0o600)); err != nil {
		t.Fatal(err)
	}
	stop := runAgent(t, config)
	waitFor(t, "20,000 readings", func() bool {
		code, stdout, _ := edge(t, "buffer", "stats", "--socket", filepath.Join(sock, "s"), "--json")
		var s api.BufferStats
		return code == exitOK && json.Unmarshal([]byte(stdout), &s) == nil && s.Records == 20_000
	})
	commands := [][]string{
		{"export"},
		{"export", "--format", "jsonl"},
		{"export", "--format", "line", "--series", "hall/m3"},
		{"export", "--stream", "alarm", "--format", "jsonl"},
		{"ls", "--series"},
		{"ls", "--runs", "--gaps", "--json"},
		{"verify"},
		{"dead", "--json"},
		{"dead", "export"},
	}
	ask := func(place ...string) (out []string) {
		t.Helper()
		for _, c := range commands {
			out = append(out, mustEdge(t, append(append([]string{"buffer"}, c...), place...)...))
		}
		return out
	}
	running := ask("--socket", filepath.Join(sock, "s"))
	if diff := cmp.Diff(running, ask("-c", config)); diff != "" { // the lock is held: asks
		t.Errorf("by socket (-) and by configuration (+):\n%s", diff)
	}
	if lines := strings.Count(running[0], "\n"); lines != 20_001 {
		t.Errorf("%d lines exported", lines)
	}
	code, _, stderr := edge(t, "buffer", "stats", "--dir", filepath.Join(root, "buffer"))
	if code != exitFailed || !strings.Contains(stderr, "another agent uses this buffer") || !strings.Contains(stderr, "--socket") {
		t.Errorf("files of a running agent: exit %d\n%s", code, stderr)
	}
	stop()
	before := digest(t, root)
	stopped := ask("--dir", filepath.Join(root, "buffer"))
	mustEdge(t, "buffer", "stats", "-c", config)
	for i := range stopped {
		if commands[i][0] == "verify" { // what fills a block is sealed at the end
			if !strings.HasSuffix(running[i], ": all whole\n") || !strings.HasSuffix(stopped[i], ": all whole\n") {
				t.Errorf("running: %sstopped: %s", running[i], stopped[i])
			}
			continue
		}
		if running[i] != stopped[i] {
			t.Errorf("%v: running and stopped differ:\n%.300s\n%.300s", commands[i], running[i], stopped[i])
		}
	}
	if digest(t, root) != before {
		t.Error("reading changed the directory")
	}
}

// runAgent runs an agent and returns what stops it.
func runAgent(t *testing.T, config string) (stop func()) {
	t.Helper()
	cfg, err := configs.Load(config, configs.Options{Drivers: agent.Drivers()})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{Config: cfg, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// waitFor asks until it is so; a real agent has no bubble.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !so() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestVerifySaysWhere(t *testing.T) {
	dir := stored(t, recorded(9000))
	if out := mustEdge(t, "buffer", "verify", "--dir", dir); !strings.HasSuffix(out, ": all whole\n") {
		t.Errorf("whole: %s", out)
	}
	matches, err := filepath.Glob(filepath.Join(dir, "telemetry", "*.seg"))
	if err != nil || len(matches) != 1 {
		t.Fatal(matches, err)
	}
	file, err := os.ReadFile(matches[0])
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for at := 0; ; at++ { // records 1 to 4,096; the file may hold stale copies
		i := bytes.Index(file[at:], []byte("EB\x02\x01"))
		if i < 0 {
			break
		}
		if at += i; binary.LittleEndian.Uint64(file[at+24:]) == 1 {
			file[at+100] ^= 1
			flipped++
		}
	}
	if flipped == 0 {
		t.Fatal("no such block")
	}
	if err := os.WriteFile(matches[0], file, 0o600); err != nil {
		t.Fatal(err)
	}
	before := digest(t, dir)
	code, out, stderr := edge(t, "buffer", "verify", "--dir", dir)
	want := "telemetry/" + filepath.Base(matches[0]) + ": damaged: telemetry 1 to 4096: "
	if code != exitFailed || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, ": 1 problem\n") || stderr != "" {
		t.Errorf("exit %d\n%s%s", code, out, stderr)
	}
	var v api.BufferVerification
	code, out, _ = edge(t, "buffer", "verify", "--dir", dir, "--json")
	if err := json.Unmarshal([]byte(out), &v); code != exitFailed || err != nil || v.OK || len(v.Problems) != 1 || v.Problems[0].To != 4096 {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	code, out, stderr = edge(t, "buffer", "export", "--dir", dir)
	if code != exitDegraded || strings.Count(out, "\n") != 9001-4096 || !strings.Contains(stderr, "4,096 damaged records") {
		t.Errorf("export: exit %d, %d lines\n%s", code, strings.Count(out, "\n"), stderr)
	}
	if digest(t, dir) != before {
		t.Error("reading changed the directory")
	}
}

func TestBenchMeasures(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // another bench may run on this machine
	file := filepath.Join(t.TempDir(), "data.csv")
	var csv strings.Builder
	csv.WriteString("timestamp,value\n")
	for i := range 300 {
		fmt.Fprintf(&csv, "2014-02-14 14:%02d:%02d,%d.25\n", i/60, i%60, i)
	}
	if err := os.WriteFile(file, []byte(csv.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out := mustEdge(t, "buffer", "bench", "--data", file, "--readings", "5000", "--for", "1300ms", "--device=false", "--json")
	var r benchReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	names := map[string]benchEncoding{}
	for _, e := range r.Encodings {
		names[e.Name] = e
		if e.Bytes <= 0 || e.EncodeNs <= 0 || e.DecodeNs <= 0 {
			t.Errorf("%+v", e)
		}
	}
	if names["block"].Bytes >= names["json+deflate"].Bytes || names["block"].Allocs > 0.01 || names["json"].Bytes < 30 {
		t.Errorf("encodings %v", names)
	}
	if r.Readings != 300 || r.Series != 1 || r.AppendNs <= 0 || r.OpenMs <= 0 || r.Fsyncs.Offline100 <= 0 || r.Device != nil || r.DeviceReason == "" {
		t.Errorf("report %s", out)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "edgeagent-bench-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestCodecsAgree: every encoding gives back as many readings as it was given, of
// data that is hard to write down.
func TestCodecsAgree(t *testing.T) {
	for _, n := range []int{1, 16, 4096} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			_, list, err := benchEncodings(t.Context(), recorded(5000), n, time.Millisecond)
			if err != nil || len(list) < 5 {
				t.Errorf("%d encodings, %v", len(list), err)
			}
		})
	}
}

// TestBenchReference: every key of the golden report is described.
func TestBenchReference(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/cli-json.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## edgeagent buffer bench --json\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	b, err := json.Marshal(benchReport{Encodings: []benchEncoding{{}}, Device: &benchDevice{}, DeviceReason: "x"})
	if err != nil {
		t.Fatal(err)
	}
	var report map[string]any
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	var check func(prefix string, v any)
	check = func(prefix string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				check(strings.TrimPrefix(prefix+"."+k, "."), x)
			}
			return
		case []any:
			check(prefix+"[]", v[0])
			return
		}
		if !strings.Contains(section, "`"+prefix+"`") {
			t.Errorf("%s is not described", prefix)
		}
	}
	check("", report)
}

package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	for _, format := range []Format{Blocks, JSONL} {
		t.Run(string(format), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out [1]")
			store := sinktest.NewStore()
			c := sinktest.Config{
				Scenarios: 4,
				Open: func(context.Context) (sinktest.Opened, error) {
					s, err := New(dir, format)
					return sinktest.Opened{Store: store, Sink: s, Close: func() error { return nil }}, err
				},
				Clear: func(ctx context.Context) error { return errors.Join(os.RemoveAll(dir), store.Clear(ctx)) },
				Read:  func(context.Context) ([]hub.Stored, error) { return readBlocks(dir) },
			}
			if format == JSONL {
				c.RawTimes, c.Key = true, jsonKey
				c.Read = func(context.Context) ([]hub.Stored, error) { return readLines(dir) }
			}
			sinktest.Run(t, c)
		})
	}
}

// each calls f with the content of every file below dir whose name ends so.
func contents(dir, ending string, f func(path string, b []byte) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ending) || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = f(path, b)
		}
		return err
	})
}

// readBlocks reads each file by itself, and then applies the corrections.
func readBlocks(dir string) (out []hub.Stored, err error) {
	clock := map[edgeagent.Epoch]map[edgeagent.Run]int64{}
	runs := []edgeagent.Run{}
	err = contents(dir, ".eb", func(path string, b []byte) error {
		var d block.Decoder
		names := map[uint32]edgeagent.Series{}
		device := filepath.Base(filepath.Dir(path))
		for len(b) > 0 {
			blk, rest, err := block.Next(b)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			b = rest
			h, err := block.Check(blk)
			if err != nil {
				return err
			}
			x := hub.Stored{Tenant: "acme", Device: device, Epoch: h.Epoch, Stream: h.Stream, Unsynced: h.Unsynced}
			seq := h.First
			add := func() { out, runs, seq = append(out, x), append(runs, h.Run), seq+1 }
			switch h.Kind {
			case block.KindMarks:
				m, _, err := d.Marks(blk)
				if err != nil {
					return err
				}
				clock[m.Epoch] = map[edgeagent.Run]int64{m.Clock[0].Run: m.Clock[0].Add}
			case block.KindSeries:
				_, _, entries, _, err := d.Series(blk)
				if err != nil {
					return err
				}
				for _, e := range entries {
					names[e.ID] = edgeagent.NewSeries(e.Key)
				}
			case block.KindReadings:
				rows, _, err := d.Readings(nil, blk)
				if err != nil {
					return err
				}
				for _, r := range rows {
					x.Row = hub.Row{Seq: seq, ID: r.Series, Series: names[r.Series], Time: r.Time, Value: r.Value, Quality: r.Quality}
					add()
				}
			case block.KindRollup:
				rows, src, _, err := d.Rollup(nil, blk)
				if err != nil {
					return err
				}
				for _, r := range rows {
					x.Rollup = &hub.Rollup{Seq: seq, ID: r.Series, Rollup: edgeagent.Rollup{
						Series: names[r.Series], At: edgeagent.Instant{Wall: r.Time}, Bucket: time.Duration(src.Bucket) * time.Second,
						Count: r.Count, Sum: r.Sum, Min: r.Min, Max: r.Max, First: r.First, Last: r.Last,
					}}
					add()
				}
			default:
				events, _, err := d.Events(nil, blk)
				if err != nil {
					return err
				}
				for _, e := range events {
					x.Event = &hub.Event{Seq: seq, Event: e}
					add()
				}
			}
		}
		return nil
	})
	for i := range out {
		if ns, ok := clock[out[i].Epoch][runs[i]]; ok && out[i].Unsynced {
			out[i].Row.Time += ns
			out[i].Unsynced = false
		}
	}
	return out, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readLines reads what lines say, and holds the day of each against its file.
func readLines(dir string) (out []hub.Stored, err error) {
	err = contents(dir, ".jsonl", func(path string, b []byte) error {
		if filepath.Base(path) == "clock.jsonl" {
			return nil
		}
		for line := range bytes.Lines(b) {
			var r record
			d := json.NewDecoder(bytes.NewReader(line))
			d.DisallowUnknownFields()
			if err := d.Decode(&r); err != nil {
				return fmt.Errorf("%s: %q: %w", path, line, err)
			}
			if !strings.HasPrefix(r.T, strings.TrimSuffix(filepath.Base(path), ".jsonl")) {
				return fmt.Errorf("%s holds %s", path, line)
			}
			x, err := r.stored()
			if err != nil {
				return err
			}
			out = append(out, x)
		}
		return nil
	})
	return out, ignoreMissing(err)
}

func (r record) stored() (hub.Stored, error) {
	x := hub.Stored{Tenant: r.Tenant, Device: r.Device, Epoch: r.Epoch, Stream: r.Stream, Unsynced: r.Q == "unsynced"}
	at, err := time.Parse(time.RFC3339Nano, r.T)
	if err != nil {
		return x, err
	}
	s := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: r.Sensor, Metric: r.Metric, Unit: r.Unit, Tags: edgeagent.MakePairs(r.Tags)})
	number := func(v *float64) float64 {
		if v == nil {
			return math.NaN()
		}
		return *v
	}
	switch r.Stream {
	case edgeagent.StreamTelemetry:
		x.Row = hub.Row{Seq: r.Seq, Series: s, Time: at.UnixNano(), Value: number(r.Value)}
		for q := range edgeagent.Quality(4) {
			if q.String() == r.Q {
				x.Row.Quality = q
			}
		}
	case edgeagent.StreamRollup:
		x.Rollup = &hub.Rollup{Seq: r.Seq, Rollup: edgeagent.Rollup{
			Series: s, At: edgeagent.Instant{Wall: at.UnixNano()}, Bucket: time.Duration(r.Bucket) * time.Second, Count: r.Count,
			Sum: number(r.Sum), Min: number(r.Min), Max: number(r.Max), First: number(r.First), Last: number(r.Last),
		}}
	default:
		x.Event = &hub.Event{Seq: r.Seq, Event: edgeagent.Event{
			At: edgeagent.Instant{Wall: at.UnixNano()}, Kind: r.Kind, Severity: *r.Sev, ID: r.ID, N: r.N, Series: r.Series, Text: r.Text,
			Attrs: r.Attrs, Data: r.Data,
		}}
	}
	return x, nil
}

// jsonKey leaves out what lines do not say: a line has one word for quality and clock,
// no number that is not finite, and of a series its name, unit and tags.
func jsonKey(x hub.Stored) string {
	plain := func(s edgeagent.Series) edgeagent.Series {
		k := s.Key()
		return edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: k.Sensor, Metric: k.Metric, Unit: k.Unit, Tags: k.Tags})
	}
	if x.Row.Quality != edgeagent.Good {
		x.Unsynced = false
	}
	if x.Row.Series = plain(x.Row.Series); math.IsInf(x.Row.Value, 0) {
		x.Row.Value = math.NaN()
	}
	if x.Rollup != nil {
		r := *x.Rollup
		r.Series = plain(r.Series)
		x.Rollup = &r
	}
	return sinktest.Key(x)
}

// TestTornLines: after a crash in the middle of an append, wherever it was, the same cut
// adds what is missing and nothing else, and a cut of another stream that comes before it
// does no harm.
func TestTornLines(t *testing.T) {
	first, second, other := cut(edgeagent.StreamAlarm, 1, 3), cut(edgeagent.StreamAlarm, 4, 9), cut(edgeagent.StreamEvent, 1, 2)
	whole := func() (string, []byte) {
		dir := t.TempDir()
		commit(t, dir, first, second)
		b, err := os.ReadFile(filepath.Join(dir, "acme", "gw", "2026-03-01.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		return dir, b
	}
	dir, full := whole()
	start := len(full)
	for i := range second.Events { // where the second cut begins
		_ = i
		start = bytes.LastIndexByte(full[:start-1], '\n') + 1
	}
	file := filepath.Join(dir, "acme", "gw", "2026-03-01.jsonl")
	for _, rubbish := range []string{"", "\x00\x00\x00\x00\n\x00"} {
		for size := start; size <= len(full); size += 7 {
			if err := os.WriteFile(file, append(bytes.Clone(full[:size]), rubbish...), 0o600); err != nil {
				t.Fatal(err)
			}
			if size%2 == 0 {
				commit(t, dir, other, second)
			} else {
				commit(t, dir, second, other)
			}
			got := map[string]int{}
			list, err := readLines(dir)
			if err != nil {
				t.Fatalf("cut at %d: %v", size, err)
			}
			for _, x := range list {
				got[fmt.Sprintf("%s%d", x.Stream, x.Event.Seq)]++
			}
			want := map[string]int{"event1": 1, "event2": 1}
			for seq := range 9 {
				want[fmt.Sprintf("alarm%d", seq+1)] = 1
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("cut at %d (-want +got):\n%s", size, diff)
			}
			if err := os.Remove(noteFile(filepath.Dir(file), other)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func cut(s edgeagent.Stream, from, to edgeagent.Seq) hub.Cut {
	c := hub.Cut{Tenant: "acme", Device: "gw", Epoch: 1, Stream: s, Ranges: []edgeagent.Range{{From: from, To: to}}}
	for seq := from; seq <= to; seq++ {
		c.Events = append(c.Events, hub.Event{Seq: seq, Event: edgeagent.Event{At: edgeagent.Instant{Wall: 1_772_323_200e9}, Text: "ä\nb"}})
	}
	return c
}

// commit gives cuts to a sink that begins anew.
func commit(t *testing.T, dir string, cuts ...hub.Cut) {
	t.Helper()
	s, err := New(dir, JSONL)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cuts {
		if err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEscape(t *testing.T) {
	long := strings.Repeat("?", 128)
	for name, want := range map[string]string{
		"gw-1": "gw-1", "a b": "a b", "..": "%2E%2E", ".x": "%2Ex", "a.b": "a.b", "a/../b": "a%2F..%2Fb", "%41": "%2541", "gw ü": "gw ü", "c:": "c%3A", "x ": "x%20",
	} {
		if got := escape(name); got != want {
			t.Errorf("escape(%q) = %q, want %q", name, got, want)
		}
	}
	if a, b := escape(long), escape(long[1:]+"*"); len(a) > longestName || a == b {
		t.Errorf("%q and %q", a, b)
	}
}

// TestCorrections: a correction is there for whoever reads raw times.
func TestCorrections(t *testing.T) {
	dir := t.TempDir()
	s, err := New(dir, JSONL)
	if err == nil {
		err = s.Correct(t.Context(), hub.EpochID{Tenant: "acme", Device: "gw", Epoch: 0x9f02}, hub.Correction{Run: 7, Add: time.Hour, Err: time.Second})
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "acme", "gw", "clock.jsonl"))
	want := `{"epoch":"0000000000009f02","run":"00000007","add_ns":3600000000000,"err_ns":1000000000}` + "\n"
	if err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(t.TempDir(), "csv"); err == nil {
		t.Error("an unknown format")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(file, JSONL)
	if _, ok := errors.AsType[edgeagent.Hinter](err); !ok {
		t.Errorf("no hint in %v", err)
	}
}

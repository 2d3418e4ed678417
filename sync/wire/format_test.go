package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

var update = flag.Bool("update", false, "write the golden files anew")

const noon = 1_795_608_000_123_456_789 // 2026-11-25T12:00:00.123456789Z

// vectors are the batches of the golden files.
func vectors() []edgeagent.Batch {
	plain := edgeagent.SeriesKey{Sensor: "host", Metric: "load1"}
	hostile := edgeagent.SeriesKey{
		Sensor: "#odd\\,na=me \\", Metric: "time",
		Tags: edgeagent.MakePairs(map[string]string{"device": "sda1", "a=b": "c:\\", "q": "x\ny"}),
	}
	air := edgeagent.SeriesKey{Sensor: "air", Metric: "quality", Unit: "%"}
	unsyncedBatch := readings(reading(plain, 0, 1, edgeagent.Good), reading(plain, -1, 2, edgeagent.Stale),
		reading(plain, 2e6, math.NaN(), edgeagent.Good))
	unsyncedBatch.Unsynced = true
	unsyncedRollup := rollups(rollup(plain, 0, 1, 2, 2, 2, 2, 2))
	unsyncedRollup.Unsynced = true
	nan := math.NaN()
	return []edgeagent.Batch{
		readings(
			reading(boiler, noon, 21.5, edgeagent.Good),
			reading(boiler, noon+1e9, -0.1, edgeagent.Suspect),
			reading(boiler, noon+2e9, nan, edgeagent.Good),
			reading(boiler, noon+3e9, math.Inf(-1), edgeagent.Stale),
			reading(plain, noon, 1e21, edgeagent.Good),
			reading(plain, noon, 123456789, edgeagent.Bad),
			reading(plain, noon, 1e-7, edgeagent.Good),
			reading(plain, noon, math.Copysign(0, -1), edgeagent.Good),
			reading(hostile, noon, 3, edgeagent.Good),
			reading(air, noon, 50, edgeagent.Suspect),
			reading(edgeagent.SeriesKey{}, noon, 1, edgeagent.Good),
		),
		unsyncedBatch,
		rollups(
			rollup(boiler, noon, 60, 1290, 21.25, 21.75, 21.5, 21.5),
			rollup(plain, noon, 1<<53-1, math.Inf(1), -1e300, 1.7e308, 0, -0.125),
			rollup(hostile, noon, 1, 3, 3, 3, 3, 3),
			rollup(air, noon, 2, 101, 50, 51, 50, 51),
		),
		unsyncedRollup,
		events(
			edgeagent.Event{
				At: edgeagent.Instant{Wall: noon}, Kind: "alarm", Severity: edgeagent.Critical, ID: "hot/boiler/9c01f3aa-1200", N: 2,
				Series: "plant 1/boiler/temperature", Text: "over \"80\" °C\nsince 5 min \\", Attrs: map[string]string{"state": "firing", "limit": "80"},
			},
			edgeagent.Event{At: edgeagent.Instant{Wall: noon}, Kind: "note", Text: "\x01bad \xff bytes"},
			edgeagent.Event{At: edgeagent.Instant{Wall: noon}, Kind: "capture", N: 1, Text: "1 reading", Data: []byte("EB\x02\x04")},
		),
	}
}

func TestGolden(t *testing.T) {
	for _, name := range []string{"line", "json", "senml-json"} {
		t.Run(name, func(t *testing.T) {
			f, err := New(name)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for _, b := range vectors() {
				if got, err = f.Encode(got, b, "gw-17"); err != nil {
					t.Fatal(err)
				}
			}
			file := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLineIsReadBack(t *testing.T) {
	out, err := NewLine().Encode(nil, vectors()[0], "gw-17")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseLines(string(out))
	if err != nil {
		t.Fatal(err)
	}
	want := point{
		measurement: "plant 1/boiler", tags: map[string]string{"device": "gw-17", "line": "0", "site": "oslo, north"},
		fields: map[string]any{"temperature": 21.5}, ns: noon,
	}
	if diff := cmp.Diff(want, got[0], cmp.AllowUnexported(point{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"quality": "bad"}, got[2].fields); diff != "" {
		t.Errorf("NaN: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"quality": "stale"}, got[3].fields); diff != "" {
		t.Errorf("stale infinity: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"device": "gw-17", "sensor_device": "sda1", "a=b": "c:/", "q": "x y"}, got[8].tags); diff != "" {
		t.Errorf("hostile tags: -want +got:\n%s", diff)
	}
}

func TestEncodeErrors(t *testing.T) {
	good := readings(reading(boiler, noon, 1, 0))
	wrongCount := good
	wrongCount.Count = 2
	shortRollup := rollups(rollup(boiler, noon, 1, 1, 1, 1, 1, 1))
	shortRollup.Count = 2
	noRollup := edgeagent.NewBatch(shortRollup.BatchHeader, nil, neither{})
	series := good
	series.Stream = 0
	broken := edgeagent.NewBatch(good.BatchHeader, nil, records{err: errors.New("damaged")})
	for name, b := range map[string]edgeagent.Batch{
		"wrong count": wrongCount, "rollups of another number": shortRollup, "no rollups": noRollup, "no stream": series, "damaged": broken,
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range []Format{NewLine(), NewJSON()} {
				got, err := f.Encode([]byte("before"), b, "gw")
				if err == nil || string(got) != "before" {
					t.Errorf("%s: got %q, error %v; want what was there and an error", f.Name(), got, err)
				}
			}
		})
	}
	if _, err := New("block"); err == nil {
		t.Error("block is not a text format")
	}
}

// neither is content that knows no rollups.
type neither struct{ edgeagent.BatchContent }

func TestRollupLineIsReadBack(t *testing.T) {
	out, err := NewLine().Encode(nil, rollups(rollup(boiler, noon, 60, 1290, 21.25, 21.75, 21.5, 21.5)), "gw-17")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseLines(string(out))
	if err != nil {
		t.Fatal(err)
	}
	want := []point{{
		measurement: "plant 1/boiler", tags: map[string]string{"device": "gw-17", "line": "0", "site": "oslo, north"},
		fields: map[string]any{
			"temperature_count": int64(60), "temperature_sum": 1290.0, "temperature_min": 21.25, "temperature_max": 21.75,
			"temperature_first": 21.5, "temperature_last": 21.5,
		},
		ns: noon,
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(point{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func FuzzRollupLine(f *testing.F) {
	f.Add("plant/line0", "temperature", uint64(60), 21.5, 1290.0, int64(noon))
	f.Add("", "", uint64(1), math.Inf(-1), math.NaN(), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, sensor, metric string, count uint64, v, sum float64, ns int64) {
		key := edgeagent.SeriesKey{Sensor: sensor, Metric: metric}
		out, err := NewLine().Encode(nil, rollups(rollup(key, ns, count%(1<<53), sum, v, v, v, v)), "gw")
		if err != nil {
			t.Fatal(err)
		}
		points, err := parseLines(string(out))
		if err != nil || len(points) != 1 {
			t.Fatalf("%q reads back as %d points: %v", out, len(points), err)
		}
		p := points[0]
		if got := p.fields[metric+"_count"]; p.ns != ns || simple(metric) && got != int64(count%(1<<53)) {
			t.Errorf("%q: time %d, count %v", out, p.ns, got)
		}
		if got, ok := p.fields[metric+"_last"]; simple(metric) && finite(v) && (!ok || got != v) {
			t.Errorf("%q: last %v, want %v", out, got, v)
		}
	})
}

func TestFixedPartsAreBounded(t *testing.T) {
	l := NewLine()
	for i := range maxFixed + 10 {
		key := edgeagent.SeriesKey{Sensor: fmt.Sprint("s", i), Metric: "m"}
		if _, err := l.Encode(nil, readings(reading(key, 0, 1, 0)), "gw"); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.fixed) > maxFixed {
		t.Errorf("keeps %d series, want at most %d", len(l.fixed), maxFixed)
	}
	out, _ := l.Encode(nil, readings(reading(boiler, 0, 1, 0)), "other")
	if !bytes.Contains(out, []byte("device=other")) {
		t.Errorf("another device is not named: %s", out)
	}
}

func TestNoAllocationInSteadyState(t *testing.T) {
	for _, f := range []Format{NewLine(), NewJSON()} {
		for _, b := range vectors() {
			dst, _ := f.Encode(nil, b, "gw")
			if n := testing.AllocsPerRun(100, func() { dst, _ = f.Encode(dst[:0], b, "gw") }); n > 0 {
				t.Errorf("%s allocates %.0f times", f.Name(), n)
			}
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("plant/line0", "temperature", "site", "oslo", "gw-17", 21.5, int64(noon), uint8(0))
	f.Add("#a\\", "time", "device", "\\,", "d= ", math.Inf(1), int64(-1), uint8(1))
	f.Add("", "", "", "\n", "", 1e300, int64(math.MinInt64), uint8(3))
	f.Fuzz(func(t *testing.T, sensor, metric, tag, tagValue, device string, v float64, ns int64, q uint8) {
		key := edgeagent.SeriesKey{Sensor: sensor, Metric: metric, Tags: edgeagent.MakePairs(map[string]string{tag: tagValue})}
		out, err := NewLine().Encode(nil, readings(reading(key, ns, v, edgeagent.Quality(q%4))), device)
		if err != nil {
			t.Fatal(err)
		}
		points, err := parseLines(string(out))
		if err != nil || len(points) != 1 {
			t.Fatalf("%q reads back as %d points: %v", out, len(points), err)
		}
		p := points[0]
		if p.ns != ns {
			t.Errorf("time %d, want %d", p.ns, ns)
		}
		if simple(sensor) && simple(metric) && p.measurement != sensor {
			t.Errorf("measurement %q, want %q", p.measurement, sensor)
		}
		if want := p.fields["value"]; metric == "" && finite(v) && want != v {
			t.Errorf("value %v, want %v", want, v)
		}
		if got, ok := p.fields[metric]; simple(metric) && finite(v) && (!ok || got != v) {
			t.Errorf("value %v, want %v", got, v)
		}
	})
}

// simple reports whether a name stands unchanged in line protocol.
func simple(s string) bool {
	return s != "" && s != "time" && s != "quality" && s[0] != '#' && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == 0x7f || r == '\\'
	})
}

func FuzzEventLine(f *testing.F) {
	f.Add("alarm", "id/1", "text \"quoted\" \\ \n next", uint32(1))
	f.Fuzz(func(t *testing.T, kind, id, msg string, n uint32) {
		out, err := NewLine().Encode(nil, events(edgeagent.Event{Kind: kind, ID: id, Text: msg, N: n}), "gw")
		if err != nil {
			t.Fatal(err)
		}
		points, err := parseLines(string(out))
		if err != nil || len(points) != 1 {
			t.Fatalf("%q reads back as %d points: %v", out, len(points), err)
		}
		if got := points[0].fields["n"]; got != int64(n) {
			t.Errorf("n = %v, want %d", got, n)
		}
		want := strings.ReplaceAll(strings.ReplaceAll(msg, "\r", ""), "\n", `\n`)
		want = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, want)
		if got := points[0].fields["text"]; strings.ToValidUTF8(msg, "") == msg && got != want {
			t.Errorf("text %q, want %q", got, want)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add("plant/line0", "temperature", "Cel", "site", "oslo", 21.5, int64(noon), uint8(0))
	f.Add("\xff", "\u2028", "\"", "\\", "\x00", math.NaN(), int64(math.MinInt64), uint8(1))
	f.Add("", "", "", "", "", 5e-324, int64(math.MaxInt64), uint8(2))
	f.Fuzz(func(t *testing.T, sensor, metric, unit, tag, tagValue string, v float64, ns int64, q uint8) {
		key := edgeagent.SeriesKey{Sensor: sensor, Metric: metric, Unit: unit, Tags: edgeagent.MakePairs(map[string]string{tag: tagValue})}
		out, err := NewJSON().Encode(nil, readings(reading(key, ns, v, edgeagent.Quality(q%4))), "gw")
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			T      time.Time
			Sensor string
			Metric string
			Unit   string
			Value  *float64
			Seq    uint64
		}
		if bytes.Count(out, []byte("\n")) != 1 || out[len(out)-1] != '\n' {
			t.Fatalf("not one line: %q", out)
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if got.Sensor != utf8Of(sensor) || got.Metric != utf8Of(metric) || got.Unit != utf8Of(unit) || got.Seq != 17 {
			t.Errorf("read back %+v of %q %q %q", got, sensor, metric, unit)
		}
		if finite(v) != (got.Value != nil) || finite(v) && *got.Value != v {
			t.Errorf("value %v reads back as %v", v, got.Value)
		}
		if want := time.Unix(0, ns).UTC(); got.T.UnixMilli() != want.UnixMilli() {
			t.Errorf("time %v, want %v", got.T, want)
		}
	})
}

// utf8Of is what encoding/json makes of a string.
func utf8Of(s string) string {
	b, _ := json.Marshal(s)
	var out string
	_ = json.Unmarshal(b, &out)
	return out
}

func BenchmarkEncode(b *testing.B) {
	batch := vectors()[0]
	var rs []edgeagent.Reading
	for i := range 1000 {
		rs = append(rs, reading(boiler, noon+int64(i)*1e9, 20+float64(i%97)/100, edgeagent.Good))
	}
	batch = readings(rs...)
	for _, f := range []Format{NewLine(), NewJSON()} {
		b.Run(f.Name(), func(b *testing.B) {
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = f.Encode(dst[:0], batch, "gw-17")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/reading")
			b.ReportMetric(float64(len(dst))/1000, "bytes/reading")
		})
	}
}

// What EncodeUpTo takes is the beginning of what Encode makes: as many whole records as
// fit, never none.
func TestEncodeUpTo(t *testing.T) {
	for _, f := range []Partial{NewLine(), NewJSON()} {
		for i, b := range vectors() {
			whole, err := f.Encode(nil, b, "gw-17")
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.SplitAfter(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
			lines[len(lines)-1] = append(lines[len(lines)-1], '\n')
			if len(lines) != b.Count {
				t.Fatalf("%s %d: %d lines of %d records", f.Name(), i, len(lines), b.Count)
			}
			for size := range len(whole) + 2 {
				got, n, err := f.EncodeUpTo([]byte("before"), b, "gw-17", size)
				if err != nil || n < 1 || n > b.Count {
					t.Fatalf("%s %d, %d bytes: %d records, %v", f.Name(), i, size, n, err)
				}
				text := bytes.TrimPrefix(got, []byte("before"))
				if !bytes.Equal(text, bytes.Join(lines[:n], nil)) {
					t.Fatalf("%s %d, %d bytes: %q", f.Name(), i, size, text)
				}
				if n > 1 && len(text) > size || n < b.Count && len(text)+len(lines[n]) <= size {
					t.Fatalf("%s %d: %d records of %d in %d of %d bytes", f.Name(), i, n, b.Count, len(text), size)
				}
			}
		}
	}
}

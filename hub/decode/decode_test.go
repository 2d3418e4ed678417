package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

const at = int64(1772323200_000000000) // 2026-03-01T00:00:00Z

// must returns the block that an encoder made.
func must(t testing.TB) func(b []byte, err error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

type gateway struct {
	t     testing.TB
	enc   block.Encoder
	name  string
	epoch edgeagent.Epoch
}

func (g *gateway) names(ids ...uint32) []byte {
	g.t.Helper()
	list := make([]block.SeriesEntry, 0, len(ids))
	for _, id := range ids {
		list = append(list, block.SeriesEntry{ID: id, Key: edgeagent.SeriesKey{Sensor: "s", Metric: fmt.Sprintf("m%d", id), Resolution: 6}})
	}
	return must(g.t)(g.enc.Series(nil, g.name, g.epoch, list))
}

func (g *gateway) reading(seq edgeagent.Seq, series uint32, value float64, unsynced bool) []byte {
	g.t.Helper()
	id := block.ID{Stream: edgeagent.StreamTelemetry, Epoch: g.epoch, First: seq, Run: 3, Resolution: 6, Unsynced: unsynced}
	return must(g.t)(g.enc.Readings(nil, id, []block.Row{{Series: series, Time: at, Value: value}}))
}

func (g *gateway) event(seq edgeagent.Seq, text string) []byte {
	g.t.Helper()
	id := block.ID{Stream: edgeagent.StreamAlarm, Epoch: g.epoch, First: seq, Run: 3}
	ev := edgeagent.Event{At: edgeagent.Instant{Wall: at}, Kind: "alarm", ID: "r/i/1-2", N: 1, Text: text}
	return must(g.t)(g.enc.Events(nil, id, []edgeagent.Event{ev}))
}

func (g *gateway) rollup(seq edgeagent.Seq, series uint32) []byte {
	g.t.Helper()
	id := block.ID{Stream: edgeagent.StreamRollup, Epoch: g.epoch, First: seq, Run: 3, Resolution: 6}
	src := block.RollupSource{Stream: edgeagent.StreamTelemetry, From: 1, To: 60, Bucket: 60}
	return must(g.t)(g.enc.Rollup(nil, id, src, []block.RollupRow{{Series: series, Time: at, Count: 60, Sum: 60, Min: 0, Max: 2, First: 1, Last: 1}}))
}

func (g *gateway) marks() []byte {
	g.t.Helper()
	return must(g.t)(g.enc.Marks(nil, block.Marks{Epoch: g.epoch, Run: 3, Streams: map[edgeagent.Stream]block.MarkStream{
		edgeagent.StreamTelemetry: {Low: 1, Next: 9},
	}}))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func copyText(t *testing.T, in []byte, f Framing, o Options) (string, Stats, error) {
	t.Helper()
	var out bytes.Buffer
	stats, err := Copy(&out, bytes.NewReader(in), f, o)
	return out.String(), stats, err
}

func TestFormats(t *testing.T) {
	g := &gateway{t: t, name: "gw", epoch: 9}
	in := join(g.names(1), g.reading(4, 1, 1.5, false), g.reading(5, 1, 2, true), g.event(1, "hot"), g.rollup(1, 1), g.marks())
	for name, tt := range map[string]struct {
		want    string
		omitted uint64
	}{
		"line": {`s,device=gw m1=1.5 1772323200000000000
s,device=gw m1=2,quality="unsynced" 1772323200000000000
edge_event,device=gw,kind=alarm,sev=info id="r/i/1-2",n=1i,text="hot" 1772323200000000000
s,device=gw m1_count=60i,m1_sum=60,m1_min=0,m1_max=2,m1_first=1,m1_last=1 1772323200000000000
`, 0},
		"csv": {"time_ns,device,series,value,quality\n1772323200000000000,gw,s/m1,1.5,good\n1772323200000000000,gw,s/m1,2,unsynced\n", 2},
		"json": {`{"t":"2026-03-01T00:00:00.000Z","device":"gw","sensor":"s","metric":"m1","unit":"","value":1.5,"q":"good","epoch":"0000000000000009","run":"00000003","stream":"telemetry","seq":4}
{"t":"2026-03-01T00:00:00.000Z","device":"gw","sensor":"s","metric":"m1","unit":"","value":2,"q":"unsynced","epoch":"0000000000000009","run":"00000003","stream":"telemetry","seq":5}
{"t":"2026-03-01T00:00:00.000Z","device":"gw","kind":"alarm","sev":"info","id":"r/i/1-2","n":1,"series":"","text":"hot","attrs":{},"epoch":"0000000000000009","run":"00000003","stream":"alarm","seq":1}
{"t":"2026-03-01T00:00:00.000Z","device":"gw","sensor":"s","metric":"m1","unit":"","count":60,"sum":60,"min":0,"max":2,"first":1,"last":1,"bucket_s":60,"q":"good","epoch":"0000000000000009","run":"00000003","stream":"rollup","seq":1}
`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, stats, err := copyText(t, in, None, Options{Format: name})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if want := (Stats{Blocks: 6, Records: 4 - tt.omitted, Omitted: tt.omitted}); stats != want {
				t.Errorf("stats %+v, want %+v", stats, want)
			}
		})
	}
	if _, _, err := copyText(t, nil, None, Options{Format: "xml"}); err == nil {
		t.Error("a format that does not exist is taken")
	}
}

// TestStream: blocks in a stream without frames, with what tools put between them.
func TestStream(t *testing.T) {
	g := &gateway{t: t, name: "gw", epoch: 9}
	names, one := g.names(1), g.reading(1, 1, 1, false)
	broken := bytes.Clone(one)
	broken[len(broken)-1] ^= 1
	const line = "s,device=gw m1=1 1772323200000000000\n"
	for name, tt := range map[string]struct {
		in      []byte
		want    string
		damaged uint64
		err     string
	}{
		"nothing":              {nil, "", 0, ""},
		"back to back":         {join(names, one), line, 0, ""},
		"line ends":            {join(names, []byte("\n"), one, []byte("\r\n\n")), line, 0, ""},
		"a damaged block":      {join(names, broken, one), line, 1, ""},
		"cut in the header":    {join(names, one, one[:40]), line, 0, "unexpected EOF"},
		"cut in the payload":   {join(names, one, one[:len(one)-1]), line, 0, "unexpected EOF"},
		"text":                 {join(names, one, []byte(`{"t":1}`)), line, 0, "not a block"},
		"an encrypted block":   {join(names, one, []byte("EX\x01\x00 and so on")), line, 0, "encrypted"},
		"another version":      {join(names, []byte("EB\x09"), make([]byte, 80)), "", 0, "version"},
		"one letter of magic":  {join(names, []byte("E")), "", 0, "not a block"},
		"nothing but line end": {[]byte("\n"), "", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, stats, err := copyText(t, tt.in, None, Options{})
			if got != tt.want || stats.Damaged != tt.damaged {
				t.Errorf("printed %q, %d damaged; want %q, %d", got, stats.Damaged, tt.want, tt.damaged)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestTopics: in frames nothing that is wrong with a message harms another.
func TestTopics(t *testing.T) {
	g := &gateway{t: t, name: "gw", epoch: 9}
	frame := func(topic string, payload []byte) []byte {
		return join(fmt.Appendf(nil, "%s %d\n", topic, len(payload)), payload, []byte("\n"))
	}
	const topic = "ea/v1/default/g w/d/live"
	in := join(
		frame(topic, g.event(1, "no name yet")), // the topic says whose it is
		frame(topic, []byte("EX\x01\x00")),
		frame(topic, []byte("no block")),
		frame(topic, nil),
		frame("else where", g.names(1)),
		frame(topic, make([]byte, MaxMessage+1)),
		frame(topic, join(g.reading(1, 1, 1, false), g.reading(2, 1, 2, false))),
	)
	got, stats, err := copyText(t, in, Topic, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := `edge_event,device=g\ w,kind=alarm,sev=info id="r/i/1-2",n=1i,text="no name yet" 1772323200000000000
s,device=gw m1=1 1772323200000000000
s,device=gw m1=2 1772323200000000000
`
	if d := cmp.Diff(want, got); d != "" || stats.Damaged != 3 {
		t.Errorf("%d damaged, want 3 (-want +got):\n%s", stats.Damaged, d)
	}
	for name, in := range map[string]string{
		"no length":    "ea/v1/a/b/d/live\n",
		"no number":    "ea/v1/a/b/d/live x\n",
		"no end":       "ea/v1/a/b/d/live 12",
		"cut short":    "ea/v1/a/b/d/live 12\nEB",
		"endless":      strings.Repeat("x", 1<<17),
		"large number": "t 99999999999999999999\n",
	} {
		if _, _, err := copyText(t, []byte(in), Topic, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestFrames: each frame gets one answer, as whoever waits for it expects.
func TestFrames(t *testing.T) {
	g := &gateway{t: t, name: "gw", epoch: 9}
	var in []byte
	for _, m := range [][]byte{g.reading(1, 1, 1, false), nil, g.names(1), []byte("EX"), g.reading(2, 1, 2, false)} {
		in = binary.BigEndian.AppendUint32(in, uint32(len(m)))
		in = append(in, m...)
	}
	got, stats, err := copyText(t, in, Length, Options{})
	if err != nil || stats.Damaged != 1 {
		t.Fatalf("%+v, %v", stats, err)
	}
	var answers []string
	for r := strings.NewReader(got); r.Len() > 0; {
		var n uint32
		if err := binary.Read(r, binary.BigEndian, &n); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, string(b))
	}
	want := []string{"", "", "s,device=gw m1=1 1772323200000000000\n", "", "s,device=gw m1=2 1772323200000000000\n"}
	if d := cmp.Diff(want, answers); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
	if _, _, err := copyText(t, in[:len(in)-1], Length, Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a frame cut short: %v", err)
	}
}

// TestNames: what comes before its names waits, and names are kept for the next time.
func TestNames(t *testing.T) {
	g, other := &gateway{t: t, name: "gw", epoch: 9}, &gateway{t: t, name: "other", epoch: 10}
	var kept bytes.Buffer
	in := join(g.reading(1, 1, 1, false), other.reading(1, 1, 7, false), g.reading(2, 2, 2, false), g.names(1), g.names(1), g.names(1, 2))
	got, stats, err := copyText(t, in, None, Options{Names: &kept})
	if err != nil {
		t.Fatal(err)
	}
	if want := "s,device=gw m1=1 1772323200000000000\ns,device=gw m2=2 1772323200000000000\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if stats.Waiting != 1 || stats.Lost != 0 {
		t.Errorf("stats %+v, want one block that waits", stats)
	}
	if want := join(g.names(1), g.names(1, 2)); !bytes.Equal(kept.Bytes(), want) {
		t.Errorf("kept %d bytes of names, want %d", kept.Len(), len(want))
	}
	known := kept.Bytes()
	again, _, err := copyText(t, join(g.names(1), g.reading(3, 2, 3, false)), None, Options{Known: known, Names: failing{}})
	if err != nil || again != "s,device=gw m2=3 1772323200000000000\n" {
		t.Errorf("the next time: %q, %v", again, err)
	}
}

// TestBounds: no input makes a decoder hold more than it says.
func TestBounds(t *testing.T) {
	d, err := New(io.Discard, Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, name: "gw"}
	for d.bytes+1000 < MaxHeld || d.stats.Lost < 3 {
		id := block.ID{Stream: edgeagent.StreamTelemetry, Epoch: 1, First: 1, Run: 3}
		rows := make([]block.Row, 1024)
		for i := range rows {
			rows[i] = block.Row{Series: 1, Time: int64(i*i*7919) * 1e6, Value: 1 / float64(i+1)}
		}
		if err := d.Message("", must(t)(g.enc.Readings(nil, id, rows))); err != nil {
			t.Fatal(err)
		}
	}
	if d.bytes > MaxHeld {
		t.Errorf("holds %d bytes", d.bytes)
	}
	for id := range edgeagent.Epoch(MaxEpochs + 10) {
		g.epoch = id + 2
		if err := d.Message("", g.names(1)); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.epochs) != MaxEpochs || d.series != MaxEpochs {
		t.Errorf("knows %d epochs and %d names, want %d", len(d.epochs), d.series, MaxEpochs)
	}
	if d.epochs[2] != nil || d.epochs[MaxEpochs+11] == nil {
		t.Error("another epoch than the one used longest ago was forgotten")
	}
}

// TestWriteErrors: nobody may take for printed what was not.
func TestWriteErrors(t *testing.T) {
	g := &gateway{t: t, name: "gw", epoch: 9}
	in := join(g.names(1), g.reading(1, 1, 1, false))
	if _, err := Copy(failing{}, bytes.NewReader(in), None, Options{}); err == nil {
		t.Error("no error of the writer")
	}
	if _, err := Copy(io.Discard, bytes.NewReader(in), None, Options{Names: failing{}}); err == nil {
		t.Error("no error of the writer of names")
	}
	if _, err := Copy(io.Discard, iotest.ErrReader(errors.New("broken")), None, Options{}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("error of the reader: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestCSVField(t *testing.T) {
	for _, c := range [][2]string{{"a", "a"}, {"a,b", `"a,b"`}, {"a\nb", "\"a\nb\""}, {`a"b`, `"a""b"`}, {" a", `" a"`}} {
		in, want := c[0], c[1]
		if got := csvField(in); got != want {
			t.Errorf("csvField(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzCopy(f *testing.F) {
	g := &gateway{t: f, name: "gw", epoch: 9}
	f.Add(join(g.names(1), g.reading(4, 1, 1.5, false), g.event(1, "hot"), g.rollup(1, 1), g.marks()), byte(0), "json")
	f.Add(join([]byte("ea/v1/a/b/d/live 4\nEX\x00\x00\n")), byte(1), "line")
	f.Add([]byte("\x00\x00\x00\x02EB"), byte(2), "csv")
	f.Fuzz(func(t *testing.T, in []byte, framing byte, format string) {
		stats, err := Copy(io.Discard, bytes.NewReader(in), Framing(framing%3), Options{Format: format})
		if err == nil && stats.Waiting > 0 && stats.Blocks == 0 {
			t.Errorf("blocks wait that never came: %+v", stats)
		}
	})
}

package block

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgeagent/edgeagent"
)

func someEvents() []edgeagent.Event {
	return []edgeagent.Event{
		{
			At: edgeagent.Instant{Wall: 1772323200_123456789}, Kind: edgeagent.KindAlarm, Severity: edgeagent.Critical,
			ID: "overheat/boiler/9c01f3aa-120000", N: 2, Series: "boiler/temperature", Text: "boiler above 90 °C",
			Attrs: map[string]string{"state": edgeagent.AlarmFiring, "value": "91.25"},
		},
		{At: edgeagent.Instant{Wall: 1772323199_000000000}, Kind: "gap"},
		{At: edgeagent.Instant{Wall: math.MinInt64}, Kind: "capture", N: math.MaxUint32, Severity: edgeagent.Warning},
	}
}

func TestEventsRoundTrip(t *testing.T) {
	var e Encoder
	var d Decoder
	id := ID{Stream: edgeagent.StreamAlarm, Epoch: 7, First: 40, Run: 8, Resolution: 6, Unsynced: true}
	blk, err := e.Events(nil, id, someEvents())
	if err != nil {
		t.Fatal(err)
	}
	got, h, err := d.Events(make([]edgeagent.Event, 1), blk)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(someEvents(), got[1:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	want := Header{
		Kind: KindEvents, Unsynced: true, Stream: edgeagent.StreamAlarm, Count: 3, Epoch: 7, First: 40, Run: 8,
		MinTime: math.MinInt64, MaxTime: 1772323200_123456789,
	}
	if diff := cmp.Diff(want, h, cmpopts.IgnoreFields(Header{}, "RawLen", "StoredLen", "Compressed")); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

// TestLargestEvent: one event at its bounds fits a block, whatever it says.
func TestLargestEvent(t *testing.T) {
	ev := edgeagent.Event{Kind: "capture", Text: strings.Repeat("\x01\xff", edgeagent.MaxEventText/2), Attrs: map[string]string{}}
	for i := range edgeagent.MaxEventAttrs / 4 {
		ev.Attrs[string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))] = "v"
	}
	var e Encoder
	var d Decoder
	blk, err := e.Events(nil, ID{Stream: 2, First: 1}, []edgeagent.Event{ev})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := d.Events(nil, blk)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ev.Attrs, got[0].Attrs); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}

func TestEventsWithBrokenText(t *testing.T) {
	var e Encoder
	var d Decoder
	broken := "a\xffb"
	blk, err := e.Events(nil, ID{Stream: 2, First: 1}, []edgeagent.Event{{
		Kind: broken, ID: broken, Series: broken, Text: broken, Attrs: map[string]string{broken: broken},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := d.Events(nil, blk)
	if err != nil {
		t.Fatal(err)
	}
	mended := "a\uFFFDb"
	want := []edgeagent.Event{{Kind: mended, ID: mended, Series: mended, Text: mended, Attrs: map[string]string{mended: mended}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestEventsRefused(t *testing.T) {
	many := map[string]string{}
	for i := range maxElements + 1 {
		many[string(rune(0x4000+i))] = ""
	}
	noise := make([]edgeagent.Event, 40)
	for i := range noise {
		var text strings.Builder
		for j := range edgeagent.MaxEventText {
			text.WriteByte(byte(' ' + uint32(i*j*j+j)*2654435761>>7%90))
		}
		noise[i] = edgeagent.Event{Kind: "x", Text: text.String()}
	}
	tests := []struct {
		name string
		id   ID
		evs  []edgeagent.Event
		want error
	}{
		{"none", ID{Stream: 1, First: 1}, nil, ErrEmpty},
		{"too many", ID{Stream: 1, First: 1}, make([]edgeagent.Event, MaxRecords+1), ErrTooLarge},
		{"too large", ID{Stream: 1, First: 1}, noise, ErrTooLarge},
		{"no kind", ID{Stream: 1, First: 1}, []edgeagent.Event{{}}, ErrInvalid},
		{"unknown severity", ID{Stream: 1, First: 1}, []edgeagent.Event{{Kind: "x", Severity: 3}}, ErrInvalid},
		{"too many attributes", ID{Stream: 1, First: 1}, []edgeagent.Event{{Kind: "x", Attrs: many}}, ErrInvalid},
		{"telemetry", ID{Stream: 3, First: 1}, []edgeagent.Event{{Kind: "x"}}, ErrInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var e Encoder
			if dst, err := e.Events([]byte("x"), test.id, test.evs); !errors.Is(err, test.want) || string(dst) != "x" {
				t.Errorf("got %v and %d bytes, want %v", err, len(dst), test.want)
			}
		})
	}
}

func someSeries() []SeriesEntry {
	return []SeriesEntry{
		{1, edgeagent.SeriesKey{Sensor: "plant1/line0/bme280-00", Metric: "temperature", Unit: "Cel", Resolution: 6}},
		{2, edgeagent.SeriesKey{Metric: "uptime", Kind: edgeagent.Counter, Unit: "s", Resolution: 9}},
		{70_000, edgeagent.SeriesKey{
			Sensor: "door", Metric: "open", Kind: edgeagent.State, Resolution: 0,
			Tags:   edgeagent.MakePairs(map[string]string{"line": "2", "hall": "Ost"}),
			Labels: edgeagent.MakePairs(map[string]string{"0": "closed", "1": "open"}),
		}},
	}
}

// comparePairs compares what Pairs hold.
var comparePairs = cmp.Transformer("Map", edgeagent.Pairs.Map)

func TestSeriesRoundTrip(t *testing.T) {
	var e Encoder
	var d Decoder
	blk, err := e.Series(nil, "gw-7", 0xffee000000000001, someSeries())
	if err != nil {
		t.Fatal(err)
	}
	device, epoch, got, h, err := d.Series(blk)
	if err != nil {
		t.Fatal(err)
	}
	if device != "gw-7" || epoch != 0xffee000000000001 {
		t.Errorf("device %q, epoch %s", device, epoch)
	}
	if diff := cmp.Diff(someSeries(), got, comparePairs); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	want := Header{Kind: KindSeries, Count: 3, Epoch: 0xffee000000000001, MaxSeriesID: 70_000}
	if diff := cmp.Diff(want, h, cmpopts.IgnoreFields(Header{}, "RawLen", "StoredLen", "Compressed")); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestSeriesRefused(t *testing.T) {
	ok := edgeagent.SeriesKey{Metric: "m"}
	tests := []struct {
		name    string
		entries []SeriesEntry
		want    error
	}{
		{"none", nil, ErrEmpty},
		{"too many", make([]SeriesEntry, MaxRecords+1), ErrTooLarge},
		{"the same id", []SeriesEntry{{1, ok}, {1, ok}}, ErrInvalid},
		{"falling ids", []SeriesEntry{{2, ok}, {1, ok}}, ErrInvalid},
		{"no metric", []SeriesEntry{{1, edgeagent.SeriesKey{Sensor: "s"}}}, ErrInvalid},
		{"unknown kind", []SeriesEntry{{1, edgeagent.SeriesKey{Metric: "m", Kind: 3}}}, ErrInvalid},
		{"unknown resolution", []SeriesEntry{{1, edgeagent.SeriesKey{Metric: "m", Resolution: 10}}}, ErrInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var e Encoder
			if dst, err := e.Series([]byte("x"), "d", 1, test.entries); !errors.Is(err, test.want) || string(dst) != "x" {
				t.Errorf("got %v and %d bytes, want %v", err, len(dst), test.want)
			}
		})
	}
}

func someMarks() Marks {
	return Marks{
		Epoch: 5, Prev: 4, Run: 6,
		Clock: []Correction{{Run: 6, Add: 1_700_000_000_000_000_000, Err: 5_000_000}},
		Streams: map[edgeagent.Stream]MarkStream{
			edgeagent.StreamTelemetry: {Low: 11, Next: 1 << 40, Gaps: []Gap{
				{From: 20, To: 29, Reason: "evicted", AtMost: 10, TFrom: 1, TTo: 2},
				{From: 100, To: 1 << 33, Reason: "power_cut", AtMost: 64},
				{From: 1 << 34, To: 1 << 35, Reason: "rolled_up", AtMost: 9, Rollup: []edgeagent.Seq{3, 8}},
			}},
			edgeagent.StreamAlarm: {Low: 1, Next: 1},
		},
	}
}

func TestMarksRoundTrip(t *testing.T) {
	var e Encoder
	var d Decoder
	blk, err := e.Marks(nil, someMarks())
	if err != nil {
		t.Fatal(err)
	}
	got, h, err := d.Marks(blk)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(someMarks(), got); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	if h.Epoch != 5 || h.Run != 6 || h.Count != 1 {
		t.Errorf("header %+v", h)
	}
}

func TestMarksRefused(t *testing.T) {
	of := func(s MarkStream) Marks {
		return Marks{Streams: map[edgeagent.Stream]MarkStream{edgeagent.StreamEvent: s}}
	}
	tests := []struct {
		name  string
		marks Marks
	}{
		{"low 0", of(MarkStream{Next: 1})},
		{"low beyond next", of(MarkStream{Low: 2, Next: 1})},
		{"next beyond 53 bits", of(MarkStream{Low: 2, Next: 1 << 53})},
		{"gap from 0", of(MarkStream{Low: 1, Next: 9, Gaps: []Gap{{To: 3}}})},
		{"gap that runs backwards", of(MarkStream{Low: 1, Next: 9, Gaps: []Gap{{From: 3, To: 2}}})},
		{"half a rollup", of(MarkStream{Low: 1, Next: 9, Gaps: []Gap{{From: 3, To: 3, Rollup: []edgeagent.Seq{1}}}})},
		{"unknown stream", Marks{Streams: map[edgeagent.Stream]MarkStream{9: {Low: 1, Next: 1}}}},
		{"too many gaps", of(MarkStream{Low: 1, Next: 9, Gaps: make([]Gap, maxElements+1)})},
		{"too many corrections", Marks{Clock: make([]Correction, maxElements+1)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var e Encoder
			if _, err := e.Marks(nil, test.marks); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want %v", err, ErrInvalid)
			}
		})
	}
}

// TestUnknownKeysAreIgnored: a later writer may say more.
func TestUnknownKeysAreIgnored(t *testing.T) {
	var e Encoder
	var d Decoder
	if err := e.appendRecord(map[string]any{"t": 5, "kind": "x", "sev": "info", "data": []byte{1, 2}, "more": map[string]any{"a": []int{1}}}); err != nil {
		t.Fatal(err)
	}
	blk, err := e.seal(nil, Header{Kind: KindEvents, Stream: 2, Count: 1, First: 1, MinTime: 5, MaxTime: 5}, e.raw)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := d.Events(nil, blk)
	if err != nil || len(got) != 1 || got[0].Kind != "x" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestMarksOfAnEndedEpoch(t *testing.T) {
	var e Encoder
	var d Decoder
	m := someMarks()
	m.Successor = 0xF00D
	blk, err := e.Marks(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := d.Marks(blk); err != nil || got.Successor != m.Successor {
		t.Errorf("successor %s, %v", got.Successor, err)
	}
}

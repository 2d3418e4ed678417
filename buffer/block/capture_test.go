package block

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

var (
	capturedTemperature = edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature", Unit: "Cel", Resolution: 6}
	capturedDoor        = edgeagent.SeriesKey{
		Sensor: "door", Metric: "open", Kind: edgeagent.State, Resolution: 6,
		Labels: edgeagent.MakePairs(map[string]string{"0": "closed", "1": "open"}),
	}
)

// captureData makes the data of a capture of two series.
func captureData(tb testing.TB, stream edgeagent.Stream, rows []Row) []byte {
	tb.Helper()
	var e Encoder
	id := ID{Stream: stream, First: edgeagent.Seq(stream), Run: 3, Resolution: 6}
	b, err := e.Series(nil, "gw-7", 0, []SeriesEntry{{ID: 1, Key: capturedTemperature}, {ID: 2, Key: capturedDoor}})
	if err == nil {
		b, err = e.Readings(b, id, rows)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

var capturedRows = []Row{
	{1, 1772323200_000000000, 89.5, edgeagent.Good},
	{2, 1772323200_250000000, 1, edgeagent.Suspect},
	{1, 1772323201_000000000, 91.25, edgeagent.Good},
	{1, 1772323200_900000000, math.Inf(1), edgeagent.Bad},
}

func someCapture(tb testing.TB) edgeagent.Event {
	return edgeagent.Event{
		At: edgeagent.Instant{Wall: 1772323201_000000000}, Kind: edgeagent.KindCapture, ID: "overheat/-/9c01f3aa-120000", N: 1,
		Series: "boiler/temperature", Text: "4 readings around the alarm", Attrs: map[string]string{"parts": "1", "rule": "overheat"},
		Data: captureData(tb, 0, capturedRows),
	}
}

func TestCaptureThroughABlock(t *testing.T) {
	var e Encoder
	var d Decoder
	blk, err := e.Events(nil, ID{Stream: edgeagent.StreamEvent, First: 1}, []edgeagent.Event{someCapture(t)})
	if err != nil {
		t.Fatal(err)
	}
	evs, _, err := d.Events(nil, blk)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(someCapture(t), evs[0]); diff != "" {
		t.Fatalf("event (-want +got):\n%s", diff)
	}
	device, got, err := d.Capture(nil, evs[0].Data)
	if err != nil || device != "gw-7" {
		t.Fatalf("device %q: %v", device, err)
	}
	keys := []edgeagent.SeriesKey{{}, capturedTemperature, capturedDoor}
	if len(got) != len(capturedRows) {
		t.Fatalf("%d readings", len(got))
	}
	for i, want := range capturedRows {
		if r := got[i]; r.Series.Key() != keys[want.Series] || r.At.Wall != want.Time || r.Value != want.Value || r.Quality != want.Quality {
			t.Errorf("reading %d is %v, want %v", i, r, want)
		}
	}
}

func TestCaptureRefuses(t *testing.T) {
	good := captureData(t, 0, capturedRows)
	names, readings, err := Next(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"nothing":             nil,
		"names only":          names,
		"readings only":       readings,
		"something behind":    append(slices.Clone(good), 0),
		"cut short":           good[:len(good)-1],
		"numbered readings":   captureData(t, edgeagent.StreamTelemetry, capturedRows),
		"a series not listed": captureData(t, 0, []Row{{3, 0, 1, edgeagent.Good}}),
	} {
		var d Decoder
		if _, rs, err := d.Capture(nil, data); err == nil || len(rs) > 0 {
			t.Errorf("%s: %d readings, %v", name, len(rs), err)
		}
	}
}

func FuzzCapture(f *testing.F) {
	f.Add(captureData(f, 0, capturedRows))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var d Decoder
		_, _, _ = d.Capture(nil, data)
	})
}

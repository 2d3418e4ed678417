package buffer

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

func capturedOf(t *testing.T, parts [][]byte) (rs []edgeagent.Reading) {
	t.Helper()
	total := 0
	for i, p := range parts {
		var d block.Decoder
		device, got, err := d.Capture(nil, p)
		if err != nil || device != "gw-1" {
			t.Fatalf("part %d of %q: %v", i, device, err)
		}
		if total += len(p); len(p) > edgeagent.MaxEventData {
			t.Errorf("part %d has %d bytes", i, len(p))
		}
		rs = append(rs, got...)
	}
	if len(parts) > maxCaptureParts || total > maxCaptureBytes {
		t.Errorf("%d parts, %d bytes", len(parts), total)
	}
	return rs
}

// rawNoise are readings that compress badly, of n series with so many bytes of names.
func rawNoise(count, n, names int) []edgeagent.Reading {
	r := rand.New(rand.NewPCG(1, 2))
	series := make([]edgeagent.Series, n)
	for i := range series {
		b := make([]byte, names)
		for j := range b {
			b[j] = byte('a' + r.IntN(26))
		}
		series[i] = edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: strconv.Itoa(i), Metric: "x" + string(b), Resolution: uint8(i % 7)})
	}
	rs := make([]edgeagent.Reading, count)
	for i := range rs {
		rs[i] = edgeagent.Reading{
			Series: series[i%n], Value: math.Float64frombits(r.Uint64()), Quality: edgeagent.Quality(r.IntN(4)),
			At: edgeagent.Instant{Wall: 1e18 + r.Int64N(int64(time.Hour))},
		}
	}
	return rs
}

// TestCapture: every reading comes back as it was, in order, whatever the size.
func TestCapture(t *testing.T) {
	b := open(t, t.TempDir(), options())
	for _, n := range []int{0, 1, 512, 8192} {
		rs := rawNoise(n, 3, 5)
		parts, thinned, err := b.Capture(rs)
		if err != nil || thinned {
			t.Fatalf("%d readings: thinned %v, %v", n, thinned, err)
		}
		got := capturedOf(t, parts)
		if len(got) != n {
			t.Fatalf("%d readings of %d", len(got), n)
		}
		for i, want := range rs {
			want.At = edgeagent.Instant{Wall: roundTime(want.At.Wall, want.Series.Key().Resolution)}
			if got[i].Series != want.Series || got[i].At != want.At || math.Float64bits(got[i].Value) != math.Float64bits(want.Value) || got[i].Quality != want.Quality {
				t.Fatalf("reading %d of %d is %v, want %v", i, n, got[i], want)
			}
		}
	}
}

// TestCaptureIsThinned: beyond the bounds every series loses readings evenly, and
// keeps its first.
func TestCaptureIsThinned(t *testing.T) {
	b := open(t, t.TempDir(), options())
	for name, rs := range map[string][]edgeagent.Reading{
		"many readings": rawNoise(40_000, 3, 5),
		"long names":    rawNoise(8192, 30, 2000),
	} {
		parts, thinned, err := b.Capture(rs)
		if err != nil || !thinned {
			t.Fatalf("%s: thinned %v, %v", name, thinned, err)
		}
		counts := map[edgeagent.Series]int{}
		for _, r := range capturedOf(t, parts) {
			counts[r.Series]++
		}
		least, most := len(rs), 0
		for _, r := range rs {
			least, most = min(least, counts[r.Series]), max(most, counts[r.Series])
		}
		if least == 0 || most-least > 1 {
			t.Errorf("%s: between %d and %d readings a series", name, least, most)
		}
	}
	if _, _, err := b.Capture(rawNoise(1, 1, 30_000)); !errors.Is(err, block.ErrTooLarge) {
		t.Errorf("a name beyond all bounds: %v", err)
	}
	if _, _, err := b.Capture(make([]edgeagent.Reading, 1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a reading without a series: %v", err)
	}
}

// TestEventDataIsBounded: the largest event fits the smallest buffer, anything
// beyond is refused.
func TestEventDataIsBounded(t *testing.T) {
	o := options()
	o.MaxBytes = minMaxBytes
	b := open(t, t.TempDir(), o)
	large := edgeagent.Event{Kind: edgeagent.KindCapture, Data: make([]byte, edgeagent.MaxEventData), Attrs: map[string]string{}}
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(large.Data)
	left := edgeagent.MaxEventSize - edgeagent.MaxEventData - len(large.Kind)
	for i := 0; left >= 4; i++ { // many small attributes take most room beside their text
		large.Attrs[fmt.Sprintf("%03x", i)] = "v"
		left -= 4
	}
	large.Text = strings.Repeat("t", left)
	for range 20 {
		if _, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, []edgeagent.Event{large, large}); err != nil {
			t.Fatal(err)
		}
	}
	got, ok, err := b.Read(t.Context(), b.Epoch(), edgeagent.StreamEvent, 7, edgeagent.Limit{Records: 1})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	evs, err := got.Events(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(large, evs[0]); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	for name, ev := range map[string]edgeagent.Event{
		"data":      {Kind: "x", Data: make([]byte, edgeagent.MaxEventData+1)},
		"all of it": {Kind: "x", Data: large.Data, Attrs: large.Attrs, Text: "one more"},
	} {
		if _, err := b.AppendEvents(t.Context(), edgeagent.StreamEvent, []edgeagent.Event{ev}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package headlog

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// sameBits compares values by their bits: NaN has many.
var sameBits = cmp.Transformer("bits", math.Float64bits)

func decode(t interface{ Fatalf(string, ...any) }, payload []byte, n int, base int64, res uint8) []block.Row {
	f := Frame{Kind: Readings, Count: uint32(n), Base: base, Resolution: res, Payload: payload}
	got, err := DecodeRows(nil, f)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return got
}

func TestRowsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		res := rapid.Uint8Range(0, maxResolution+2).Draw(t, "resolution")
		unit := powers[min(res, maxResolution)]
		onGrid := rapid.Bool().Draw(t, "on the grid")
		rows := rapid.SliceOf(rapid.Custom(func(t *rapid.T) block.Row {
			r := block.Row{
				Series: rapid.Uint32().Draw(t, "series"), Time: rapid.Int64().Draw(t, "time"),
				Value:   math.Float64frombits(rapid.Uint64().Draw(t, "value")),
				Quality: edgeagent.Quality(rapid.Uint8Range(0, 3).Draw(t, "quality")),
			}
			if onGrid {
				r.Time = r.Time / unit * unit
			}
			return r
		})).Draw(t, "rows")
		payload, base, used := AppendRows([]byte("before"), rows, res)
		got := decode(t, payload[len("before"):], len(rows), base, used)
		if diff := cmp.Diff(rows, append([]block.Row{}, got...), sameBits); diff != "" {
			t.Fatalf("rows (-want +got):\n%s", diff)
		}
	})
}

// TestRowsAreSmall: what a gateway takes once a second needs 11 bytes a reading.
func TestRowsAreSmall(t *testing.T) {
	rows := gatewayRows(100)
	payload, base, used := AppendRows(nil, rows, 6)
	if used != 6 || len(payload) > 11*len(rows) {
		t.Errorf("%d bytes for %d rows at resolution %d", len(payload), len(rows), used)
	}
	if diff := cmp.Diff(rows, decode(t, payload, len(rows), base, used)); diff != "" {
		t.Error(diff)
	}
}

// gatewayRows are readings of 20 series at some Hz.
func gatewayRows(n int) []block.Row {
	rows := make([]block.Row, n)
	for i := range rows {
		rows[i] = block.Row{Series: uint32(1 + i%20), Time: 1_700_000_000_000_000_000 + int64(i)*10_000_000, Value: 20 + float64(i%70)/100}
	}
	return rows
}

func TestDecodeRowsRefuses(t *testing.T) {
	payload, base, used := AppendRows(nil, gatewayRows(3), 6)
	good := Frame{Kind: Readings, Count: 3, Base: base, Resolution: used, Payload: payload}
	tests := map[string]func(*Frame){
		"another kind":      func(f *Frame) { f.Kind = Events },
		"more rows":         func(f *Frame) { f.Count++ },
		"fewer rows":        func(f *Frame) { f.Count-- },
		"a lying count":     func(f *Frame) { f.Count = math.MaxUint32 },
		"an odd resolution": func(f *Frame) { f.Resolution = 10 },
		"an odd base":       func(f *Frame) { f.Base++ },
		"a short payload":   func(f *Frame) { f.Payload = f.Payload[:len(f.Payload)-1] },
		"a huge series":     func(f *Frame) { f.Payload = append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, f.Payload[1:]...) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			f := good
			change(&f)
			if rows, err := DecodeRows(nil, f); err == nil {
				t.Errorf("accepted as %v", rows)
			}
		})
	}
}

func FuzzDecodeRows(f *testing.F) {
	payload, base, used := AppendRows(nil, gatewayRows(5), 6)
	f.Add(payload, uint32(5), base, used)
	f.Fuzz(func(t *testing.T, payload []byte, count uint32, base int64, res uint8) {
		rows, err := DecodeRows(nil, Frame{Kind: Readings, Count: count, Base: base, Resolution: res, Payload: payload})
		if err != nil {
			return
		}
		if len(rows) != int(count) {
			t.Fatalf("%d rows, want %d", len(rows), count)
		}
		if len(rows) == 0 {
			return
		}
		again, base, used := AppendRows(nil, rows, res)
		if diff := cmp.Diff(rows, decode(t, again, len(rows), base, used), sameBits); diff != "" {
			t.Fatal(diff)
		}
	})
}

package block

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/edgeagent/edgeagent"
)

// FuzzDecode gives the decoders any header and payload under a checksum that
// fits. What decodes must encode and decode to the same again.
func FuzzDecode(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b)
	}
	var e Encoder
	rows := readSet(f, "gateway")
	for _, n := range []int{1, 29, 300} {
		b, err := e.Readings(nil, telemetry, rows[:n])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, vm := range valueMakers {
		f.Add(sampleOf(f, vm.make))
		rows := makeRollup(rand.New(rand.NewPCG(7, 8)), 40, 2, 1e6, true, vm.make)
		f.Add(roundTripRollup(f, rollupID, fromMinute, rows))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderSize {
			return
		}
		b = append([]byte(nil), b...)
		// Let the mutations of the payload's length through.
		if raw := len(b) - HeaderSize; binary.LittleEndian.Uint16(b[offFlags:])&flagLZ4 == 0 {
			binary.LittleEndian.PutUint32(b[offRawLen:], uint32(raw))
		}
		binary.LittleEndian.PutUint32(b[offStoredLen:], uint32(len(b)-HeaderSize))
		var d Decoder
		if decodeAny(&d, fix(b)) == nil {
			again(t, b)
		}
	})
}

// again encodes what b holds anew.
func again(t *testing.T, b []byte) {
	var d Decoder
	h, err := ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	if h.Kind == KindRollup && h.Count <= 256 {
		rows, src, _, err := d.Rollup(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		roundTripRollup(t, ID{h.Stream, h.Epoch, h.First, h.Run, h.Unsynced, h.Resolution}, src, rows)
	}
	if h.Kind != KindReadings || h.Count > 1024 {
		return
	}
	rows, _, err := d.Readings(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, ID{h.Stream, h.Epoch, h.First, h.Run, h.Unsynced, h.Resolution}, rows)
}

func sampleOf(tb testing.TB, value func(r *rand.Rand, i int) float64) []byte {
	tb.Helper()
	r := rand.New(rand.NewPCG(7, 8))
	rows := make([]Row, 90)
	for i := range rows {
		rows[i] = Row{uint32(i % 2), int64(i/2) * 1e9, value(r, i), edgeagent.Quality(i / 45)}
	}
	var e Encoder
	b, err := e.Readings(nil, telemetry, rows)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// FuzzRoundTrip makes rows of any bytes: 18 a row.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint8(0), []byte("eighteen bytes a row, or a little more than that"))
	for _, vm := range valueMakers {
		var b []byte
		r := rand.New(rand.NewPCG(9, 10))
		for i := range 60 {
			b = append(b, byte(i%3), 0)
			b = binary.LittleEndian.AppendUint64(b, uint64(i*1000))
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(vm.make(r, i)))
		}
		f.Add(uint8(6), b)
	}
	f.Fuzz(func(t *testing.T, resolution uint8, b []byte) {
		id := ID{Stream: edgeagent.StreamTelemetry, First: 1, Resolution: resolution % 10}
		var rows []Row
		for u := unit(id.Resolution); len(b) >= 18 && len(rows) < 1024; b = b[18:] {
			rows = append(rows, Row{
				Series: uint32(b[0]), Quality: edgeagent.Quality(b[1] & 3),
				Time:  int64(binary.LittleEndian.Uint64(b[2:])) / u * u,
				Value: math.Float64frombits(binary.LittleEndian.Uint64(b[10:])),
			})
		}
		if len(rows) > 0 {
			roundTrip(t, id, rows)
		}
	})
}

// TestDecodeIsBounded: a small block that claims the most there can be costs no
// more than the rows it is good for.
func TestDecodeIsBounded(t *testing.T) {
	payload := append([]byte{1, 0}, make([]byte, MaxCount/groupLen)...) // one series, id 0, and its turns
	payload = append(payload, byte(decimal), 0, 0, byte(constant), 0, byte(constant))
	h := Header{
		Kind: KindReadings, Stream: 3, First: 1, Count: MaxCount,
		RawLen: uint32(len(payload)), StoredLen: uint32(len(payload)),
	}
	b := append(make([]byte, HeaderSize), payload...)
	h.put(b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var d Decoder
	rows, _, err := d.Readings(nil, b)
	runtime.ReadMemStats(&after)
	if err != nil || len(rows) != MaxCount {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("a block of %d bytes took %d bytes of memory", len(b), got)
	}
	// A count beyond the payload's rows, and a raw length beyond its bytes.
	for _, change := range []func(*Header){
		func(h *Header) { h.Count -= groupLen },
		func(h *Header) { h.RawLen = MaxRaw },
	} {
		bad := h
		change(&bad)
		bad.put(b)
		if _, _, err := d.Readings(nil, b); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}

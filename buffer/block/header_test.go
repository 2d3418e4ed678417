package block

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// a block of each kind that can be made.
func samples(tb testing.TB) map[Kind][]byte {
	tb.Helper()
	var e Encoder
	made := map[Kind][]byte{}
	keep := func(k Kind) func(b []byte, err error) {
		return func(b []byte, err error) {
			if err != nil {
				tb.Fatal(err)
			}
			made[k] = b
		}
	}
	keep(KindReadings)(e.Readings(nil, telemetry, []Row{{1, 1772323200_000000000, 21.5, 0}, {2, 1772323200_001000000, 40, edgeagent.Stale}}))
	keep(KindEvents)(e.Events(nil, ID{Stream: edgeagent.StreamAlarm, First: 1}, []edgeagent.Event{{Kind: "alarm", ID: "hot/boiler/9c01f3aa-12"}}))
	keep(KindSeries)(e.Series(nil, "gw-7", 1, []SeriesEntry{{1, edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature"}}}))
	keep(KindMarks)(e.Marks(nil, Marks{Epoch: 1, Run: 2, Streams: map[edgeagent.Stream]MarkStream{edgeagent.StreamTelemetry: {Low: 1, Next: 9}}}))
	keep(KindRollup)(e.Rollup(nil, rollupID, fromMinute, []RollupRow{{1, 1772323200_000000000, 60, 1290.5, 21.4, 21.6, 21.5, 21.55}}))
	return made
}

// fix writes the checksum that fits.
func fix(b []byte) []byte {
	if len(b) >= HeaderSize {
		binary.LittleEndian.PutUint32(b[offCRC:], checksum(b))
	}
	return b
}

// decodeAny decodes a block of whatever kind it says it is.
func decodeAny(d *Decoder, b []byte) error {
	h, err := Check(b)
	if err != nil {
		return err
	}
	switch h.Kind {
	case KindReadings:
		_, _, err = d.Readings(nil, b)
	case KindEvents:
		_, _, err = d.Events(nil, b)
	case KindSeries:
		_, _, _, _, err = d.Series(b)
	case KindRollup:
		_, _, _, err = d.Rollup(nil, b)
	case KindMarks:
		_, _, err = d.Marks(b)
	}
	return err
}

func TestHeaderLayout(t *testing.T) {
	h := Header{
		Kind: KindReadings, Compressed: true, Unsynced: true, Stream: 3, Resolution: 6, Count: 0x0201,
		Epoch: 0x1716151413121110, First: 0x001E1D1C1B1A1918, Run: 0x23222120, RawLen: 0x172625, StoredLen: 0x2625,
		MaxSeriesID: 0x2F2E2D2C, MinTime: 0x3736353433323130, MaxTime: 0x3F3E3D3C3B3A3938,
	}
	b := make([]byte, HeaderSize)
	h.put(b)
	want := []byte{
		'E', 'B', 2, 1, b[4], b[5], b[6], b[7], 3, 0, 3, 6, 0x01, 0x02, 0, 0,
		0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0,
		0x20, 0x21, 0x22, 0x23, 0x25, 0x26, 0x17, 0, 0x25, 0x26, 0, 0, 0x2C, 0x2D, 0x2E, 0x2F,
		0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F,
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Errorf("bytes of the header (-want +got):\n%s", diff)
	}
	got, err := ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h, got); diff != "" {
		t.Errorf("header read back (-want +got):\n%s", diff)
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	type change func(b []byte)
	u16 := func(at int, v uint16) change { return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], v) } }
	u32 := func(at int, v uint32) change { return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) } }
	u64 := func(at int, v uint64) change { return func(b []byte) { binary.LittleEndian.PutUint64(b[at:], v) } }
	u8 := func(at int, v uint8) change { return func(b []byte) { b[at] = v } }
	tests := []struct {
		name   string
		change change
		want   any
	}{
		{"magic", u8(1, 'X'), ErrNotBlock},
		{"version 0", u8(offVersion, 0), &UnsupportedError{"version", 0}},
		{"version 1", u8(offVersion, 1), &UnsupportedError{"version", 1}},
		{"version 3", u8(offVersion, 3), &UnsupportedError{"version", 3}},
		{"kind 0", u8(offKind, 0), &UnsupportedError{"kind", 0}},
		{"kind 6", u8(offKind, 6), &UnsupportedError{"kind", 6}},
		{"flag bit 2", u16(offFlags, 4), &UnsupportedError{"flags", 4}},
		{"flag bit 15", u16(offFlags, 1<<15), &UnsupportedError{"flags", 1 << 15}},
		{"no records", u32(offCount, 0), &CorruptError{}},
		{"too many records", u32(offCount, MaxCount+1), &CorruptError{}},
		{"no payload", u32(offRawLen, 0), &CorruptError{}},
		{"too large", u32(offRawLen, MaxRaw+1), &CorruptError{}},
		{"lengths differ", u32(offStoredLen, 1), &CorruptError{}},
		{"compressed and not smaller", u16(offFlags, flagLZ4), &CorruptError{}},
		{"compressed beyond what LZ4 can", func(b []byte) {
			u16(offFlags, flagLZ4)(b)
			u32(offStoredLen, 10)(b)
			u32(offRawLen, 2551)(b)
		}, &CorruptError{}},
		{"resolution", u8(offResolution, 10), &CorruptError{}},
		{"times in disorder", u64(offMinTime, math.MaxInt64), &CorruptError{}},
		{"stream of another kind", u8(offStream, 4), &CorruptError{}},
		{"stream without a number", u64(offFirst, 0), &CorruptError{}},
		{"number without a stream", u8(offStream, 0), &CorruptError{}},
		{"number beyond 53 bits", u64(offFirst, 1<<53-1), &CorruptError{}},
		{"number near 2^64", u64(offFirst, math.MaxUint64), &CorruptError{}},
		{"events in telemetry", u8(offKind, byte(KindEvents)), &CorruptError{}},
		{"rollup in telemetry", u8(offKind, byte(KindRollup)), &CorruptError{}},
		{"series in telemetry", u8(offKind, byte(KindSeries)), &CorruptError{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := samples(t)[KindReadings]
			test.change(b)
			_, err := Check(fix(b))
			switch want := test.want.(type) {
			case *UnsupportedError:
				got, ok := errors.AsType[*UnsupportedError](err)
				if !ok || *got != *want || got.Hint() == "" {
					t.Errorf("got %v, want %v", err, want)
				}
			case *CorruptError:
				if _, ok := errors.AsType[*CorruptError](err); !ok {
					t.Errorf("got %v, want a CorruptError", err)
				}
			case error:
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
		})
	}
}

func TestSeriesBlocksBearNoTimes(t *testing.T) {
	b := samples(t)[KindSeries]
	binary.LittleEndian.PutUint64(b[offMaxTime:], 1)
	if _, err := Check(fix(b)); err == nil {
		t.Error("accepted")
	}
}

// TestFlippedBits: no bit of a block can change unnoticed.
func TestFlippedBits(t *testing.T) {
	for kind, b := range samples(t) {
		if _, err := Check(b); err != nil {
			t.Fatal(err)
		}
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := Check(b); err == nil {
				t.Errorf("%s: bit %d flipped and accepted", kind, bit)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestCutShort(t *testing.T) {
	for kind, b := range samples(t) {
		for n := range b {
			if _, err := Check(b[:n]); err == nil {
				t.Errorf("%s: accepted %d of %d bytes", kind, n, len(b))
			}
		}
		if _, err := Check(append(b, 0)); err == nil {
			t.Errorf("%s: accepted with a byte more", kind)
		}
	}
}

// TestDamageBehindTheChecksum: damage that the checksum covers for is an error or
// another block, never a panic.
func TestDamageBehindTheChecksum(t *testing.T) {
	var d Decoder
	rows := readSet(t, "gateway")[:300]
	all := samples(t)
	var e Encoder
	b, err := e.Readings(nil, telemetry, rows)
	if err != nil {
		t.Fatal(err)
	}
	all[0] = b
	for _, b := range all {
		for i := range b {
			was := b[i]
			for _, x := range []byte{0, 1, 0x7F, 0x80, 0xFF, was ^ 1, was ^ 0x10} {
				b[i] = x
				_ = decodeAny(&d, fix(b))
			}
			b[i] = was
		}
		if err := decodeAny(&d, fix(b)); err != nil {
			t.Fatalf("mended: %v", err)
		}
	}
}

func TestNext(t *testing.T) {
	s := samples(t)
	message := append(append([]byte(nil), s[KindSeries]...), s[KindReadings]...)
	first, rest, err := Next(message)
	if err != nil || string(first) != string(s[KindSeries]) {
		t.Fatalf("first: %x, %v", first, err)
	}
	if len(first) != cap(first) {
		t.Error("appending to a block would overwrite the next")
	}
	second, rest, err := Next(rest)
	if err != nil || string(second) != string(s[KindReadings]) || len(rest) != 0 {
		t.Fatalf("second: %x, %v, %d bytes left", second, err, len(rest))
	}
	if _, _, err := Next(rest); !errors.Is(err, ErrNotBlock) {
		t.Errorf("after the end: %v", err)
	}
	if _, _, err := Next(message[:len(s[KindSeries])-1]); err == nil {
		t.Error("split off a block that is cut short")
	}
}

func TestWrongKind(t *testing.T) {
	var d Decoder
	for kind, b := range samples(t) {
		if _, _, err := d.Readings(nil, b); kind != KindReadings && !errors.Is(err, ErrKind) {
			t.Errorf("%s as readings: %v", kind, err)
		}
		if _, _, err := d.Events(nil, b); kind != KindEvents && !errors.Is(err, ErrKind) {
			t.Errorf("%s as events: %v", kind, err)
		}
		if _, _, _, err := d.Rollup(nil, b); kind != KindRollup && !errors.Is(err, ErrKind) {
			t.Errorf("%s as a rollup: %v", kind, err)
		}
	}
}

func TestHeaderOfBatch(t *testing.T) {
	h, err := ParseHeader(samples(t)[KindReadings])
	if err != nil {
		t.Fatal(err)
	}
	want := edgeagent.BatchHeader{
		Stream: 3, Epoch: telemetry.Epoch, Run: telemetry.Run, First: 1, Count: 2,
		MinTime: 1772323200_000000000, MaxTime: 1772323200_001000000, MaxSeriesID: 2,
	}
	if diff := cmp.Diff(want, h.Batch()); diff != "" {
		t.Errorf("batch header (-want +got):\n%s", diff)
	}
	if h.Last() != 2 || (Header{Count: 5}).Last() != 0 {
		t.Errorf("last %d", h.Last())
	}
}

package block

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/edgeagent/edgeagent"
)

// Sizes of the format. What is encoded keeps to MaxRecords and MaxStored; what is
// decoded may be larger, up to MaxCount and MaxRaw, so that a later writer may
// use larger blocks without a new version.
const (
	HeaderSize = 64
	MaxRecords = 4096     // records in an encoded block
	MaxStored  = 32 << 10 // bytes of an encoded block, header included
	MaxCount   = 1 << 16  // records in a block that decodes
	MaxRaw     = 4 << 20  // bytes of payload before compression that decode
	// MaxRawRecords bounds them for events, series and marks, which cost more
	// memory a byte than readings do.
	MaxRawRecords = 1 << 20
)

// Version is the only version of the format that was ever released.
const Version = 2

// Kind says what the records of a block are.
type Kind uint8

// The kinds of blocks.
const (
	KindReadings Kind = 1
	KindEvents   Kind = 2
	KindRollup   Kind = 3
	KindSeries   Kind = 4
	KindMarks    Kind = 5
)

var kindNames = [...]string{"", "readings", "events", "rollup", "series", "marks"}

// String names the kind for people.
func (k Kind) String() string {
	if k.valid() {
		return kindNames[k]
	}
	return "unknown"
}

func (k Kind) valid() bool { return k >= KindReadings && k <= KindMarks }

func (k Kind) maxRaw() uint32 {
	if k == KindReadings || k == KindRollup {
		return MaxRaw
	}
	return MaxRawRecords
}

// maxResolution is 1 s: see [edgeagent.SeriesKey].
const maxResolution = 9

// maxSeq bounds sequence numbers: JSON carries them as numbers.
const maxSeq = 1<<53 - 1

// Header is the head of a block: everything but the records.
type Header struct {
	Kind        Kind
	Compressed  bool             // the payload is an LZ4 block
	Unsynced    bool             // taken while the clock could not be trusted
	Stream      edgeagent.Stream // 0: the records are not numbered
	Resolution  uint8            // times are multiples of 10^Resolution ns
	Count       uint32           // records
	Epoch       edgeagent.Epoch
	First       edgeagent.Seq // of the first record, 0 when not numbered
	Run         edgeagent.Run
	RawLen      uint32 // bytes of payload before compression
	StoredLen   uint32 // bytes of payload as they stand in the block
	MaxSeriesID uint32
	MinTime     int64 // Unix ns, inclusive
	MaxTime     int64
}

// Offsets of the fields.
const (
	offMagic       = 0
	offVersion     = 2
	offKind        = 3
	offCRC         = 4
	offFlags       = 8
	offStream      = 10
	offResolution  = 11
	offCount       = 12
	offEpoch       = 16
	offFirst       = 24
	offRun         = 32
	offRawLen      = 36
	offStoredLen   = 40
	offMaxSeriesID = 44
	offMinTime     = 48
	offMaxTime     = 56
)

const (
	flagLZ4      = 1 << 0
	flagUnsynced = 1 << 1
	flagsKnown   = flagLZ4 | flagUnsynced
)

// maxExpansion bounds what LZ4 can make of one byte: a length is coded in bytes
// that stand for at most 255 each.
const maxExpansion = 255

// Size returns the bytes of the whole block.
func (h Header) Size() int { return HeaderSize + int(h.StoredLen) }

// Last returns the number of the last record, 0 when they are not numbered.
func (h Header) Last() edgeagent.Seq {
	if h.First == 0 {
		return 0
	}
	return h.First + edgeagent.Seq(h.Count) - 1
}

// Batch returns the part of the header that identifies the records.
func (h Header) Batch() edgeagent.BatchHeader {
	return edgeagent.BatchHeader{
		Stream: h.Stream, Epoch: h.Epoch, Run: h.Run, First: h.First, Count: int(h.Count),
		MinTime: h.MinTime, MaxTime: h.MaxTime, MaxSeriesID: h.MaxSeriesID, Unsynced: h.Unsynced,
	}
}

// ParseHeader reads the first [HeaderSize] bytes of a block. It refuses what is
// no block ([ErrNotBlock]), what a later version wrote (*[UnsupportedError]) and
// fields that contradict each other or exceed the bounds (*[CorruptError]). It
// does not look at the payload and not at the checksum: see [Check].
func ParseHeader(b []byte) (Header, error) {
	if len(b) < 2 || b[offMagic] != 'E' || b[offMagic+1] != 'B' {
		return Header{}, ErrNotBlock
	}
	if len(b) < HeaderSize {
		return Header{}, corrupt("header cut short")
	}
	le := binary.LittleEndian
	flags := le.Uint16(b[offFlags:])
	if err := supported(b[offVersion], Kind(b[offKind]), flags); err != nil {
		return Header{}, err
	}
	h := Header{
		Kind:        Kind(b[offKind]),
		Compressed:  flags&flagLZ4 != 0,
		Unsynced:    flags&flagUnsynced != 0,
		Stream:      edgeagent.Stream(b[offStream]),
		Resolution:  b[offResolution],
		Count:       le.Uint32(b[offCount:]),
		Epoch:       edgeagent.Epoch(le.Uint64(b[offEpoch:])),
		First:       edgeagent.Seq(le.Uint64(b[offFirst:])),
		Run:         edgeagent.Run(le.Uint32(b[offRun:])),
		RawLen:      le.Uint32(b[offRawLen:]),
		StoredLen:   le.Uint32(b[offStoredLen:]),
		MaxSeriesID: le.Uint32(b[offMaxSeriesID:]),
		MinTime:     int64(le.Uint64(b[offMinTime:])),
		MaxTime:     int64(le.Uint64(b[offMaxTime:])),
	}
	if err := h.validate(); err != nil {
		return Header{}, err
	}
	return h, nil
}

func supported(version uint8, kind Kind, flags uint16) error {
	switch {
	case version != Version:
		return &UnsupportedError{"version", uint64(version)}
	case !kind.valid():
		return &UnsupportedError{"kind", uint64(kind)}
	case flags&^flagsKnown != 0:
		return &UnsupportedError{"flags", uint64(flags)}
	}
	return nil
}

func (h Header) validate() error {
	switch {
	case h.Count == 0 || h.Count > MaxCount:
		return corrupt("record count out of bounds")
	case h.RawLen == 0 || h.RawLen > h.Kind.maxRaw():
		return corrupt("raw length out of bounds")
	case h.Compressed && (h.StoredLen == 0 || h.StoredLen >= h.RawLen):
		return corrupt("stored length out of bounds")
	case h.Compressed && uint64(h.RawLen) > maxExpansion*uint64(h.StoredLen):
		return corrupt("raw length beyond what the stored bytes can hold")
	case !h.Compressed && h.StoredLen != h.RawLen:
		return corrupt("stored length is not the raw length")
	case h.Resolution > maxResolution:
		return corrupt("resolution out of bounds")
	case h.MinTime > h.MaxTime:
		return corrupt("times in disorder")
	}
	return h.validateIdentity()
}

// validateIdentity holds stream, number and kind together.
func (h Header) validateIdentity() error {
	ok := false
	switch h.Kind {
	case KindReadings: // those of a capture are not numbered
		ok = h.Stream == edgeagent.StreamTelemetry || h.Stream == 0
	case KindEvents:
		ok = h.Stream == edgeagent.StreamAlarm || h.Stream == edgeagent.StreamEvent
	case KindRollup:
		ok = h.Stream == edgeagent.StreamRollup
	case KindSeries, KindMarks:
		ok = h.Stream == 0 && h.MinTime == 0 && h.MaxTime == 0
	}
	switch {
	case !ok:
		return corrupt("stream does not fit the kind")
	case (h.Stream == 0) != (h.First == 0):
		return corrupt("first number does not fit the stream")
	case h.First > maxSeq-edgeagent.Seq(h.Count)+1:
		return corrupt("numbers beyond 53 bits")
	}
	return nil
}

// Check verifies that b is one whole block: header, length and checksum. It does
// not decode the payload.
func Check(b []byte) (Header, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, err
	}
	if len(b) != h.Size() {
		return Header{}, corrupt("length is not the header's")
	}
	if binary.LittleEndian.Uint32(b[offCRC:]) != checksum(b) {
		return Header{}, corrupt("checksum differs")
	}
	return h, nil
}

// Next splits the first block off a message, which is one or more blocks back to
// back. It checks the block's header but not its checksum.
func Next(message []byte) (blk, rest []byte, err error) {
	h, err := ParseHeader(message)
	if err != nil {
		return nil, nil, err
	}
	if len(message) < h.Size() {
		return nil, nil, corrupt("block cut short")
	}
	return message[:h.Size():h.Size()], message[h.Size():], nil
}

// checksum is CRC-32C over all bytes but the checksum's own four.
func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Update(0, table, b[:offCRC]), table, b[offCRC+4:])
}

// put writes the header into the first HeaderSize bytes of b, which holds the
// whole block, and the checksum last.
func (h Header) put(b []byte) {
	le := binary.LittleEndian
	var flags uint16
	if h.Compressed {
		flags |= flagLZ4
	}
	if h.Unsynced {
		flags |= flagUnsynced
	}
	b[offMagic], b[offMagic+1], b[offVersion], b[offKind] = 'E', 'B', Version, byte(h.Kind)
	le.PutUint16(b[offFlags:], flags)
	b[offStream], b[offResolution] = byte(h.Stream), h.Resolution
	le.PutUint32(b[offCount:], h.Count)
	le.PutUint64(b[offEpoch:], uint64(h.Epoch))
	le.PutUint64(b[offFirst:], uint64(h.First))
	le.PutUint32(b[offRun:], uint32(h.Run))
	le.PutUint32(b[offRawLen:], h.RawLen)
	le.PutUint32(b[offStoredLen:], h.StoredLen)
	le.PutUint32(b[offMaxSeriesID:], h.MaxSeriesID)
	le.PutUint64(b[offMinTime:], uint64(h.MinTime))
	le.PutUint64(b[offMaxTime:], uint64(h.MaxTime))
	le.PutUint32(b[offCRC:], checksum(b))
}

// unit returns 10^resolution.
func unit(resolution uint8) int64 {
	u := int64(1)
	for range resolution {
		u *= 10
	}
	return u
}

package headlog

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/edgeagent/edgeagent"
)

// Kind says what the payload of a frame is. Kinds from 128 on are the log's own.
// Frames of kinds that a reader does not know are to be skipped.
type Kind uint8

// The kinds of frames. What their payloads look like is the caller's business;
// [AppendRows] is a codec for readings.
const (
	Readings Kind = 1
	Events   Kind = 2
	Acks     Kind = 3 // cursors of destinations
	Series   Kind = 4 // definitions
	Gaps     Kind = 5 // ledger entries
)

const (
	kindHeader   Kind = 128 // first of a generation: version and limits
	kindLimit    Kind = 129 // First is the new limit of Stream
	kindBegun    Kind = 130 // behind the tails: the generation is complete
	kindReleased Kind = 131 // all older generations are dead
	kindWitness  Kind = 132 // says only what every frame says: how much was durable
)

// Flags qualify the records of a frame.
type Flags uint8

// The flags.
const (
	Unsynced Flags = 1 << 0 // taken while the clock could not be trusted
	Starts   Flags = 1 << 1 // a clock segment starts with the first record
)

// Frame is what is appended, and recovered, as a whole.
type Frame struct {
	Kind   Kind
	Stream edgeagent.Stream // 0 where it has no meaning
	Flags  Flags
	// Resolution and Base belong to the payload's times: multiples of
	// 10^Resolution ns, counted from Base (Unix ns).
	Resolution uint8
	Base       int64
	// Epoch of the records; on append, 0 means the log's.
	Epoch edgeagent.Epoch
	Run   edgeagent.Run
	First edgeagent.Seq // number of the first record
	Count uint32        // of records
	// Payload is not kept by the log. That of a recovered frame is valid until
	// the next one.
	Payload []byte
}

// last returns the number of the last record.
func (f *Frame) last() edgeagent.Seq { return f.First + edgeagent.Seq(f.Count) - 1 }

// numbered reports whether First and Count are numbers of records.
func (f *Frame) numbered() bool { return f.Kind == Readings || f.Kind == Events }

// Limits hold, by stream, the number below which numbers may be handed out.
type Limits [5]edgeagent.Seq

// raise makes each limit the greater of two.
func (l *Limits) raise(o Limits) {
	for i := range l {
		l[i] = max(l[i], o[i])
	}
}

// A full frame on the disk, little endian: a header of 60 bytes, then the payload.
//
//	 0 u32 crc32c of bytes 4 …, seeded with the offset in the file
//	 4 u32 payload length       8 u64 generation         16 u64 epoch
//	24 u64 first sequence      32 i64 time base          40 u32 count
//	44 u32 run                 48 u32 index: frames of this generation before it
//	52 u16 pages of the file that were durable when it was written
//	54 u16 magic               56 u8 kind                57 u8 stream
//	58 u8 flags                59 u8 resolution
//
// The seed makes a frame at any other place invalid: a page that a card wrote to
// the wrong address, or a payload that is itself a piece of a head file.
const (
	pageSize   = 4096
	headerSize = 60
	magic      = 0x4c48 // "HL"
	version    = 2      // 1 had no short frames
)

// MaxPayload bounds the payload of a frame.
const MaxPayload = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place is what a frame says of its own place.
type place struct {
	gen     uint64
	index   uint32
	durable uint16
}

// header is a frame's header as it is found on the disk.
type header struct {
	Frame
	place
	sum    uint32
	header int // bytes before the payload
	length int // of the payload
}

// size is that of the whole frame.
func (h *header) size() int { return h.header + h.length }

// appendFrame appends a frame as it will stand at offset at.
func appendFrame(dst []byte, at int64, p place, f *Frame) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	dst = append(dst, f.Payload...)
	b, le := dst[start:], binary.LittleEndian
	le.PutUint32(b[4:], uint32(len(f.Payload)))
	le.PutUint64(b[8:], p.gen)
	le.PutUint64(b[16:], uint64(f.Epoch))
	le.PutUint64(b[24:], uint64(f.First))
	le.PutUint64(b[32:], uint64(f.Base))
	le.PutUint32(b[40:], f.Count)
	le.PutUint32(b[44:], uint32(f.Run))
	le.PutUint32(b[48:], p.index)
	le.PutUint16(b[52:], p.durable)
	le.PutUint16(b[54:], magic)
	b[56], b[57], b[58], b[59] = byte(f.Kind), byte(f.Stream), byte(f.Flags), f.Resolution
	le.PutUint32(b, checksum(b, at))
	return dst
}

// checksum is that of a whole frame at offset at.
func checksum(frame []byte, at int64) uint32 {
	return crc32.Update(uint32(at), castagnoli, frame[4:])
}

// parseHeader reads a header; ok says that it might be one.
func parseHeader(b []byte) (h header, ok bool) {
	le := binary.LittleEndian
	if len(b) < headerSize || le.Uint16(b[54:]) != magic {
		return h, false
	}
	length := le.Uint32(b[4:])
	if length > MaxPayload {
		return h, false
	}
	h.sum, h.header, h.length = le.Uint32(b), headerSize, int(length)
	h.place = place{gen: le.Uint64(b[8:]), index: le.Uint32(b[48:]), durable: le.Uint16(b[52:])}
	h.Frame = Frame{
		Kind: Kind(b[56]), Stream: edgeagent.Stream(b[57]), Flags: Flags(b[58]), Resolution: b[59],
		Base: int64(le.Uint64(b[32:])), Epoch: edgeagent.Epoch(le.Uint64(b[16:])), Run: edgeagent.Run(le.Uint32(b[44:])),
		First: edgeagent.Seq(le.Uint64(b[24:])), Count: le.Uint32(b[40:]),
	}
	return h, h.gen != 0
}

// headPayload is the payload of a header frame: the version, then the limits of
// streams 1 to 4.
func headPayload(dst []byte, l Limits) []byte {
	dst = append(dst, version)
	for _, s := range edgeagent.Streams() {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(l[s]))
	}
	return dst
}

// parseHead is the inverse of headPayload.
func parseHead(b []byte) (v uint8, l Limits, ok bool) {
	if len(b) == 0 {
		return 0, l, false
	}
	if b[0] != version {
		return b[0], l, true
	}
	if len(b) != 1+8*len(edgeagent.Streams()) {
		return 0, l, false
	}
	for i, s := range edgeagent.Streams() {
		l[s] = edgeagent.Seq(binary.LittleEndian.Uint64(b[1+8*i:]))
	}
	return version, l, true
}

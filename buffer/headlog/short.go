package headlog

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/edgeagent/edgeagent"
)

// A short frame says only in what it differs from a full one, its anchor, that
// begins before it in the same page: a reading that comes alone would otherwise
// take six times its own length. The bytes are in doc.go.
//
// Everything is counted from the anchor and nothing from the frame before, so a
// damaged short frame costs itself only, and a damaged anchor costs what refers to
// it in that one page. The anchor's checksum in the seed ties the two together: a
// frame is never read with another anchor than its own, and what an older
// generation left in the page fits none.
const (
	minShort = 8 + 1 + 1 // bytes of the smallest
	// maxShortHeader is more than any has, and less than a full one.
	maxShortHeader = 8 + 5*binary.MaxVarintLen64
	// maxShortPayload bounds the work of a search behind damage. What is longer
	// gains nothing by a shorter header.
	maxShortPayload = pageSize
)

// What is left out, in the upper bits of the place of the anchor.
const (
	shortInStep    = 1 << 12 // the first number follows from index and count
	shortSameCount = 1 << 13
	shortSameBase  = 1 << 14
	shortStarts    = 1 << 15 // not left out: the Starts flag, which no anchor passes on
	shortAnchor    = pageSize - 1
)

// anchor is a full frame that short ones may refer to.
type anchor struct {
	Frame // without payload
	place
	at  int64
	sum uint32
}

// tag marks the short frames of a generation.
func tag(gen uint64) uint16 { return uint16(gen) }

// unit is what time bases of a resolution are counted in.
func unit(resolution uint8) int64 {
	if resolution > maxResolution {
		return 1
	}
	return powers[resolution]
}

// passesOn reports whether f has all that short frames do not say.
func (a *anchor) passesOn(f *Frame) bool {
	return a.Kind == f.Kind && a.Stream == f.Stream && (a.Flags^f.Flags)&^Starts == 0 && a.Resolution == f.Resolution &&
		a.Epoch == f.Epoch && a.Run == f.Run && a.First <= f.First && (f.Base-a.Base)%unit(f.Resolution) == 0
}

// inStep returns the first number of a frame so many frames behind a, if only
// such as a came in between.
func (a *anchor) inStep(behind uint32) edgeagent.Seq {
	return a.First + edgeagent.Seq(behind)*edgeagent.Seq(a.Count)
}

// appendShort appends f as it will stand at offset at; a passes on what it has.
func (a *anchor) appendShort(dst []byte, at int64, index uint32, f *Frame) []byte {
	behind, base := index-a.index, f.Base-a.Base
	what := uint16(a.at & shortAnchor)
	start, le := len(dst), binary.LittleEndian
	dst = append(dst, 0, 0, 0, 0)
	dst = le.AppendUint16(dst, tag(a.gen))
	dst = le.AppendUint16(dst, 0)
	dst = binary.AppendUvarint(dst, uint64(len(f.Payload)))
	dst = binary.AppendUvarint(dst, uint64(behind))
	if f.First == a.inStep(behind) {
		what |= shortInStep
	} else {
		dst = binary.AppendUvarint(dst, uint64(f.First-a.First))
	}
	if f.Count == a.Count {
		what |= shortSameCount
	} else {
		dst = binary.AppendUvarint(dst, uint64(f.Count))
	}
	if base == 0 {
		what |= shortSameBase
	} else {
		dst = binary.AppendVarint(dst, base/unit(f.Resolution))
	}
	if f.Flags&Starts != 0 {
		what |= shortStarts
	}
	dst = append(dst, f.Payload...)
	b := dst[start:]
	le.PutUint16(b[6:], what)
	le.PutUint32(b, a.checksum(b, at))
	return dst
}

// checksum is that of a whole short frame at offset at.
func (a *anchor) checksum(frame []byte, at int64) uint32 {
	return crc32.Update(uint32(at)^a.sum, castagnoli, frame[4:])
}

// parse reads the header of a short frame whose anchor is a; ok says that it might
// be one. b need not hold more than maxShortHeader bytes.
func (a *anchor) parse(b []byte) (h header, ok bool) {
	le := binary.LittleEndian
	what, rest, ok := le.Uint16(b[6:]), b[8:], true
	number := func(most uint64) uint64 {
		n, k := binary.Uvarint(rest)
		if k <= 0 || n > most {
			ok = false
			return 0
		}
		rest = rest[k:]
		return n
	}
	h.Frame, h.place, h.sum = a.Frame, a.place, le.Uint32(b)
	h.length = int(number(maxShortPayload))
	behind := uint32(number(pageSize))
	h.index += behind
	h.First = a.inStep(behind)
	if what&shortInStep == 0 {
		h.First = a.First + edgeagent.Seq(number(math.MaxUint64))
	}
	if what&shortSameCount == 0 {
		h.Count = uint32(number(math.MaxUint32))
	}
	if what&shortSameBase == 0 {
		n, k := binary.Varint(rest)
		if k <= 0 {
			return h, false
		}
		h.Base, rest = a.Base+n*unit(a.Resolution), rest[k:]
	}
	h.Flags &^= Starts
	if what&shortStarts != 0 {
		h.Flags |= Starts
	}
	h.header = len(b) - len(rest)
	return h, ok && behind > 0
}

// maxAnchors bounds what a log remembers of a page: kinds, streams, resolutions
// and destinations that take turns.
const maxAnchors = 8

// anchors are those that begin in one page, as whoever writes it knows them. The
// zero value knows none.
type anchors struct {
	page    int64
	list    [maxAnchors]anchor
	n, next int
	told    uint16 // how much was durable, as the last full frame says
}

// find returns the anchor that a frame at offset at can have, nil if there is
// none: then it has to be a full one. The first full frame behind a sync says that
// it went well, so there has to be one.
func (l *anchors) find(at int64, p place, f *Frame) *anchor {
	if l.page != at/pageSize || l.told != p.durable || len(f.Payload) > maxShortPayload {
		return nil
	}
	for i := range l.list[:l.n] {
		if x := &l.list[i]; x.passesOn(f) {
			return x
		}
	}
	return nil
}

// note takes in a full frame that was written; another that passes on the same is
// forgotten.
func (l *anchors) note(at int64, p place, f *Frame, sum uint32) {
	if page := at / pageSize; l.page != page {
		l.page, l.n, l.next = page, 0, 0
	}
	l.told = p.durable
	if f.Kind >= kindHeader {
		return
	}
	i := l.next
	if l.n < maxAnchors {
		l.n++
	}
	l.next = (i + 1) % maxAnchors
	x := &l.list[i]
	x.Frame, x.place, x.at, x.sum = *f, p, at, sum
	x.Payload = nil
}

// known are the anchors of one page, as a scan finds them.
type known struct {
	page int64
	list []anchor
}

// note takes in a full frame that is whole.
func (k *known) note(at int64, h *header) {
	if page := at / pageSize; k.page != page {
		k.page, k.list = page, k.list[:0]
	}
	x := anchor{Frame: h.Frame, place: h.place, at: at, sum: h.sum}
	x.Payload = nil
	k.list = append(k.list, x)
}

// find returns the full frame that begins where in the page of offset at, before
// at; nil if none does.
func (k *known) find(at, where int64) *anchor {
	if k.page != at/pageSize {
		return nil
	}
	for i := len(k.list) - 1; i >= 0; i-- {
		if x := &k.list[i]; x.at&shortAnchor == where {
			return x
		}
	}
	return nil
}

// end returns where the page of the known frames ends; 0 if there are none.
func (k *known) end() int64 {
	if len(k.list) == 0 {
		return 0
	}
	return (k.page + 1) * pageSize
}

package headlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/edgeagent/edgeagent"
)

// windowSize is what of a file is in memory during a scan, unless it is smaller;
// the greatest frame fits.
const windowSize = 512 << 10

// maxEpochs bounds the epochs whose limits a scan remembers.
const maxEpochs = 16

// rules are what a scan insists on. The tests switch them off one by one, to see
// the simulators fail.
type rules struct {
	trustStale bool // a frame with a good checksum counts, whatever its generation and index
	noSkip     bool // a bad frame ends the file
}

// scanner reads frames of one file, in order of offset, with plain reads.
type scanner struct {
	file  File
	size  int64
	rules rules

	window []byte // the bytes from at on
	at     int64
	store  []byte
	known  known // full frames in the page that is read
	work   int64 // bytes that checksums may still be computed over

	unreadable int
	counted    int64 // pages below were counted as unreadable already
}

func newScanner(f File, size int64, store []byte, r rules) *scanner {
	return &scanner{file: f, size: size, rules: r, store: store, work: 32*size + 64*MaxPayload}
}

// view returns n bytes at off, nil if the file ends before. They are valid until
// the next call. What cannot be read is zeros: no frame has a checksum of those.
func (s *scanner) view(off int64, n int) []byte {
	if off < 0 || off+int64(n) > s.size {
		return nil
	}
	if off < s.at || off+int64(n) > s.at+int64(len(s.window)) {
		s.fill(off)
	}
	if rel := int(off - s.at); rel+n <= len(s.window) {
		return s.window[rel : rel+n]
	}
	return nil
}

// rest returns what is in memory from off on, at least a header if the file holds
// one.
func (s *scanner) rest(off int64) []byte {
	if off >= s.size || s.view(off, int(min(headerSize, s.size-off))) == nil {
		return nil
	}
	return s.window[off-s.at:]
}

func (s *scanner) fill(off int64) {
	s.at, s.window = off, s.store[:min(int64(len(s.store)), s.size-off)]
	n, err := s.file.ReadAt(s.window, off)
	if n == len(s.window) {
		return
	}
	clear(s.window[n:])
	if errors.Is(err, io.EOF) {
		return // the file shrank
	}
	for n < len(s.window) { // page by page around what is bad
		m := min(len(s.window)-n, pageSize-int((off+int64(n))%pageSize))
		part := s.window[n : n+m]
		if k, err := s.file.ReadAt(part, off+int64(n)); k < m && !errors.Is(err, io.EOF) {
			clear(part)
			if at := off + int64(n); at >= s.counted {
				s.unreadable++
				s.counted = at + 1
			}
		}
		n += m
	}
}

// full returns the full frame at off, if there is a whole one. Its payload is valid
// until the next call.
func (s *scanner) full(off int64) (h header, ok bool) {
	b := s.view(off, headerSize)
	if b == nil {
		return h, false
	}
	if h, ok = parseHeader(b); !ok {
		return h, false
	}
	b = s.body(off, &h)
	return h, b != nil && checksum(b, off) == h.sum
}

// short returns the short frame of generation gen at off, if there is a whole one
// and its anchor is known. Its payload is valid until the next call. h.gen is 0
// unless it looks like one.
func (s *scanner) short(off int64, gen uint64) (h header, ok bool) {
	b := s.rest(off)
	if len(b) < minShort || !s.tagged(b, gen) {
		return h, false
	}
	a := s.known.find(off, int64(binary.LittleEndian.Uint16(b[6:])&shortAnchor))
	if a == nil {
		return h, false
	}
	if h, ok = a.parse(b[:min(len(b), maxShortHeader)]); !ok {
		return header{}, false
	}
	b = s.body(off, &h)
	return h, b != nil && a.checksum(b, off) == h.sum
}

// tagged reports whether b may be a short frame of generation gen.
func (s *scanner) tagged(b []byte, gen uint64) bool {
	return s.rules.trustStale || binary.LittleEndian.Uint16(b[4:]) == tag(gen)
}

// body returns the whole frame that h is the header of, nil if there is less, and
// gives h its payload.
func (s *scanner) body(off int64, h *header) []byte {
	if s.work < 0 {
		return nil
	}
	b := s.view(off, h.size())
	if b != nil {
		s.work -= int64(len(b))
		h.Payload = b[h.header:]
	}
	return b
}

// frame returns the frame of generation gen at off, if there is a whole one. Its
// payload is valid until the next call. What comes must be asked for in order of
// offset.
func (s *scanner) frame(off int64, gen uint64) (h header, ok bool) {
	if h, ok = s.full(off); ok && (h.gen == gen || s.rules.trustStale) {
		s.known.note(off, &h)
		return h, true
	}
	return s.short(off, gen)
}

// find returns the first whole frame of generation gen at or behind off. Frames
// follow one another closely except behind a sync, where the next stands on a
// page boundary, and behind damage, where it may stand anywhere.
func (s *scanner) find(off int64, gen uint64) (at int64, h header, ok bool) {
	if h, ok = s.frame(off, gen); ok || s.rules.noSkip {
		return off, h, ok
	}
	if s.rules.trustStale {
		for off = nextPage(off + 1); off < s.size; off += pageSize {
			if h, ok = s.frame(off, gen); ok {
				return off, h, true
			}
		}
		return off, h, false
	}
	// Short frames can stand only where their anchor is known.
	off++
	for end := min(s.known.end(), s.size); off+minShort <= end; {
		b := s.rest(off)
		i := likely(b[:min(int64(len(b)), end-off+headerSize)], gen)
		off += int64(i)
		if off >= end {
			break
		}
		if h, ok = s.frame(off, gen); ok {
			return off, h, true
		}
		off++
	}
	return s.findFull(off, gen)
}

const genAt = 8 // in the header of a full frame

// likely returns where the first frame of generation gen may begin in b, or where
// there are too few bytes to say; b is no shorter than minShort.
func likely(b []byte, gen uint64) int {
	le, i := binary.LittleEndian, 0
	for ; i+minShort <= len(b); i++ {
		if le.Uint16(b[i+4:]) == tag(gen) || le.Uint16(b[i+genAt:]) == tag(gen) { // with which a generation begins
			return i
		}
	}
	return i
}

// findFull is find for full frames.
func (s *scanner) findFull(off int64, gen uint64) (at int64, h header, ok bool) {
	pattern := binary.LittleEndian.AppendUint64(nil, gen)
	for off+headerSize <= s.size {
		b := s.rest(off)
		i := bytes.Index(b[genAt:], pattern)
		if i < 0 {
			off += int64(len(b) - genAt - len(pattern) + 1)
			continue
		}
		off += int64(i)
		if h, ok = s.frame(off, gen); ok {
			return off, h, true
		}
		off++
	}
	return off, h, false
}

func nextPage(off int64) int64 { return (off + pageSize - 1) / pageSize * pageSize }

// survey is what one file turned out to hold: one generation, of which all that
// was durable counts, and of the rest what follows on it without a hole.
type survey struct {
	slot     int
	gen      uint64 // the file's generation; 0: no frame is whole
	seen     uint64 // greatest generation found
	epoch    edgeagent.Epoch
	limits   map[edgeagent.Epoch]Limits
	released uint64 // generations below are dead

	durable int64 // the file was durable up to here, at least
	stop    int64 // frames from here on do not count
	tally
	torn bool // something of this generation lies behind what counts

	begun      bool // its tails are complete
	unreadable int  // pages
	dead       bool // what is in it is known from elsewhere
}

// tally counts frames that count.
type tally struct {
	frames  int   // of the caller's
	records int64 // in those
	bytes   int64 // of their frames
	lost    int64 // frames, the log's own included, that were durable and are not whole now
}

// hole is a place where frames are missing, and the tally before it.
type hole struct {
	tally
	next    int64 // where the first frame behind it stands
	missing int64
}

// scan surveys one file.
func scan(s *scanner) (v survey, err error) {
	v.limits = map[edgeagent.Epoch]Limits{}
	defer func() { v.unreadable = s.unreadable }()
	if err := v.findGeneration(s); err != nil || v.gen == 0 {
		return v, err
	}
	var holes []hole
	begun := s.size // where the tails end
	last, off := int64(-1), int64(0)
	for {
		at, h, ok := s.find(off, v.gen)
		if !ok {
			break
		}
		off = at + int64(h.size())
		if int64(h.index) <= last && !s.rules.trustStale {
			continue
		}
		if n := int64(h.index) - last - 1; n > 0 && !s.rules.trustStale {
			holes = append(holes, hole{v.tally, at, n})
		}
		last = int64(h.index)
		v.note(&h)
		if h.Kind == kindBegun {
			begun = at
		}
		v.durable = max(v.durable, int64(h.durable)*pageSize)
	}
	// A hole before the durable end is damage; the first one behind it is where
	// a cut tore the file. A frame that follows directly on the durable end is on
	// the boundary, whatever is missing before.
	v.stop = s.size
	for _, x := range holes {
		if x.next <= v.durable {
			v.lost += x.missing
			continue
		}
		x.lost = v.lost
		v.tally, v.stop, v.torn = x.tally, x.next, true
		break
	}
	v.begun = begun < v.stop
	for _, at := range []int64{off, nextPage(off)} {
		if s.stub(at, v.gen) {
			v.torn = true
		}
	}
	return v, nil
}

// stub reports whether a header of generation gen stands at off, without its
// payload.
func (s *scanner) stub(off int64, gen uint64) bool {
	h, ok := s.full(off)
	if !ok && h.gen != gen {
		h, ok = s.short(off, gen)
	}
	return !ok && h.gen == gen
}

// findGeneration looks for the greatest generation of a frame on a page boundary:
// as a rule the one at offset 0. It reads the limits in all headers it meets.
func (v *survey) findGeneration(s *scanner) error {
	for off := int64(0); off < s.size; off += pageSize {
		b := s.view(off, headerSize)
		h, ok := parseHeader(b)
		if !ok || h.gen <= v.gen && h.Kind != kindHeader && h.Kind != kindLimit {
			continue
		}
		if h, ok = s.full(off); !ok {
			continue
		}
		v.seen = max(v.seen, h.gen)
		if h.Kind == kindHeader {
			if n, _, ok := parseHead(h.Payload); ok && n != version {
				return fmt.Errorf("%w: version %d, this program knows %d", ErrFormat, n, version)
			}
		}
		v.noteLimits(&h)
		if h.gen > v.gen {
			v.gen, v.epoch = h.gen, h.Epoch
		}
	}
	return nil
}

// note takes in a frame of the file's generation.
func (v *survey) note(h *header) {
	switch h.Kind {
	case kindHeader:
		v.epoch = h.Epoch
		v.noteLimits(h)
	case kindLimit:
		v.noteLimits(h)
	case kindReleased:
		v.released = h.gen
	}
	if h.Kind < kindHeader {
		v.frames++
		v.records += int64(h.Count)
		v.bytes += int64(h.size())
	}
}

// noteLimits takes in the limits that a frame bears. They count wherever it
// stands: a limit that is too high costs nothing but numbers.
func (v *survey) noteLimits(h *header) {
	var l Limits
	switch h.Kind {
	case kindHeader:
		_, l, _ = parseHead(h.Payload)
	case kindLimit:
		if !h.Stream.Valid() {
			return
		}
		l[h.Stream] = h.First
	default:
		return
	}
	known, ok := v.limits[h.Epoch]
	if !ok && len(v.limits) >= maxEpochs {
		return
	}
	known.raise(l)
	v.limits[h.Epoch] = known
}

// each calls yield for the caller's frames that count, in order.
func (v *survey) each(s *scanner, yield func(Frame) bool) bool {
	if v.gen == 0 {
		return true
	}
	last, off := int64(-1), int64(0)
	for {
		at, h, ok := s.find(off, v.gen)
		if !ok || at >= v.stop {
			return true
		}
		off = at + int64(h.size())
		if int64(h.index) <= last && !s.rules.trustStale {
			continue
		}
		last = int64(h.index)
		if h.Kind < kindHeader && !yield(h.Frame) {
			return false
		}
	}
}

// byGeneration sorts surveys, oldest first.
func byGeneration(vs []*survey) {
	slices.SortFunc(vs, func(a, b *survey) int {
		switch {
		case a.gen < b.gen:
			return -1
		case a.gen > b.gen:
			return 1
		}
		return 0
	})
}

package block

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/pierrec/lz4/v4"

	"github.com/edgeagent/edgeagent"
)

// Row is one reading as a block holds it.
type Row struct {
	Series  uint32
	Time    int64 // Unix ns
	Value   float64
	Quality edgeagent.Quality
}

// ID is the caller's part of a header.
type ID struct {
	Stream     edgeagent.Stream
	Epoch      edgeagent.Epoch
	First      edgeagent.Seq
	Run        edgeagent.Run
	Unsynced   bool
	Resolution uint8 // the finest of the block's series, 0 to 9; readings and rollups only
}

// Encoder makes blocks. The zero value is ready. It keeps scratch, about 140 KiB
// for compression and 100 bytes a record, so that encoding readings allocates
// nothing in steady state. Not for concurrent use. What it makes depends on its
// arguments alone.
type Encoder struct {
	raw   []byte
	lz4   *lz4.Compressor
	ints  integerEncoder
	value valueEncoder

	series  seriesIndex
	row     []uint32 // series of each row, in order of first appearance
	time    []int64  // by series, then by order of append
	bits    []uint64
	quality []edgeagent.Quality
	counts  []int64 // of rollups
	guess   []float64
	succ    []uint32
	turn    []uint64
	ticks   []int64
	own     []int // series with a time column of their own
}

// seriesIndex numbers the series of one block in order of their appearance.
type seriesIndex struct {
	small []uint32          // id → number+1, for small ids
	large map[uint32]uint32 // the same for the others
	ids   []uint32          // number → id
	count []int
	start []int // first row in the columns
	fill  []int
}

// smallID bounds the ids that are looked up in a slice; the buffer hands out no
// larger ones.
const smallID = 1 << 14

// number returns the number of id, a new one if it has none yet.
func (x *seriesIndex) number(id uint32) uint32 {
	if id < smallID {
		if x.small == nil {
			x.small = make([]uint32, smallID)
		}
		if x.small[id] == 0 {
			x.small[id] = x.add(id)
		}
		return x.small[id] - 1
	}
	if x.large == nil {
		x.large = map[uint32]uint32{}
	}
	if x.large[id] == 0 {
		x.large[id] = x.add(id)
	}
	return x.large[id] - 1
}

func (x *seriesIndex) add(id uint32) uint32 {
	x.ids, x.count = append(x.ids, id), append(x.count, 0)
	return uint32(len(x.ids))
}

func (x *seriesIndex) reset() {
	for _, id := range x.ids {
		if id < smallID {
			x.small[id] = 0
		}
	}
	clear(x.large)
	x.ids, x.count = x.ids[:0], x.count[:0]
}

// place works out where the columns of each series begin.
func (x *seriesIndex) place() {
	x.start, x.fill = grow(x.start, len(x.ids)), grow(x.fill, len(x.ids))
	at := 0
	for i, n := range x.count {
		x.start[i], x.fill[i] = at, at
		at += n
	}
}

// Readings appends a block of rows to dst. It refuses no rows ([ErrEmpty]), more
// than [MaxRecords] of them or a block beyond [MaxStored] ([ErrTooLarge]: 1,024
// rows always fit), a time that is no multiple of the resolution and a quality
// that does not exist.
func (e *Encoder) Readings(dst []byte, id ID, rows []Row) ([]byte, error) {
	h := id.header(KindReadings, len(rows))
	switch {
	case len(rows) == 0:
		return dst, ErrEmpty
	case len(rows) > MaxRecords:
		return dst, ErrTooLarge
	case id.Resolution > maxResolution:
		return dst, fmt.Errorf("%w: resolution %d", ErrInvalid, id.Resolution)
	}
	if err := e.gather(&h, rows); err != nil {
		return dst, err
	}
	raw := e.appendIDs(e.raw[:0])
	raw = e.appendOrder(raw, len(rows))
	e.own = e.own[:0]
	u := unit(id.Resolution)
	for s := range e.series.ids {
		var err error
		if raw, err = e.appendSeries(raw, s, u, h.MinTime/u); err != nil {
			return dst, err
		}
	}
	e.raw = raw
	return e.seal(dst, h, raw)
}

func (id ID) header(k Kind, count int) Header {
	return Header{
		Kind: k, Unsynced: id.Unsynced, Stream: id.Stream, Resolution: id.Resolution, Count: uint32(count),
		Epoch: id.Epoch, First: id.First, Run: id.Run,
	}
}

// gather sorts the rows into columns, and fills in what the header says of them.
func (e *Encoder) gather(h *Header, rows []Row) error {
	n := len(rows)
	e.series.reset()
	e.row = grow(e.row, n)
	lo, hi, maxID := rows[0].Time, rows[0].Time, uint32(0)
	for i := range rows {
		r := &rows[i]
		if r.Quality > edgeagent.Bad {
			return fmt.Errorf("%w: %s", ErrInvalid, r.Quality)
		}
		s := e.series.number(r.Series)
		e.row[i] = s
		e.series.count[s]++
		lo, hi, maxID = min(lo, r.Time), max(hi, r.Time), max(maxID, r.Series)
	}
	h.MinTime, h.MaxTime, h.MaxSeriesID = lo, hi, maxID
	e.series.place()
	e.time, e.bits, e.quality = grow(e.time, n), grow(e.bits, n), grow(e.quality, n)
	for i := range rows {
		r, s := &rows[i], e.row[i]
		at := e.series.fill[s]
		e.series.fill[s]++
		e.time[at], e.bits[at], e.quality[at] = r.Time, math.Float64bits(r.Value), r.Quality
	}
	return nil
}

// appendIDs writes how many series there are, and their ids.
func (e *Encoder) appendIDs(dst []byte) []byte {
	e.ticks = grow(e.ticks, len(e.series.ids))
	for i, id := range e.series.ids {
		e.ticks[i] = int64(id)
	}
	return e.ints.append(binary.AppendUvarint(dst, uint64(len(e.ticks))), e.ticks)
}

// appendOrder writes which series each of n rows belongs to: 0 for the one that
// followed the last time, else its place in the list and 1. Sensors are read in
// turn, so most are 0 and a group of those is a byte.
func (e *Encoder) appendOrder(dst []byte, n int) []byte {
	e.succ = successors(e.succ, len(e.series.ids))
	e.turn = grow(e.turn, n)
	last := uint32(len(e.series.ids) - 1)
	for i, s := range e.row[:n] {
		if e.succ[last] == s {
			e.turn[i] = 0
		} else {
			e.turn[i] = uint64(s) + 1
			e.succ[last] = s
		}
		last = s
	}
	return appendNumbers(dst, e.turn)
}

// successors returns what is expected to follow each of n series before anything
// is known: the next one.
func successors(s []uint32, n int) []uint32 {
	s = grow(s, n)
	for i := range s {
		s[i] = uint32(i + 1)
	}
	s[n-1] = 0
	return s
}

// appendSeries writes tag, time reference, times, values and qualities of one
// series.
func (e *Encoder) appendSeries(dst []byte, s int, unit, base int64) ([]byte, error) {
	from, to := e.series.start[s], e.series.start[s]+e.series.count[s]
	mark := len(dst)
	dst = append(dst, 0) // the tag
	dst, err := e.appendTimes(dst, s, unit, base)
	if err != nil {
		return nil, err
	}
	e.value.ints = &e.ints
	dst, tag := e.value.append(dst, e.bits[from:to])
	if anyNotGood(e.quality[from:to]) {
		tag |= tagQuality
		dst = appendQualities(dst, e.quality[from:to])
	}
	dst[mark] = tag
	return dst, nil
}

// maxOwn bounds the time columns that a series' times are compared with.
const maxOwn = 32

// appendTimes writes 0 and a column of times in units from base, or where the
// same times stand in an earlier column: 1 + 2 × (series back - 1), plus 1 when
// they begin at its second time.
func (e *Encoder) appendTimes(dst []byte, s int, unit, base int64) ([]byte, error) {
	times := e.time[e.series.start[s]:][:e.series.count[s]]
	for _, o := range e.own {
		col := e.time[e.series.start[o]:][:e.series.count[o]]
		for skip := range 2 {
			if startsWith(col[min(skip, len(col)):], times) {
				return binary.AppendUvarint(dst, uint64(2*(s-o)-1+skip)), nil
			}
		}
	}
	if len(e.own) < maxOwn {
		e.own = append(e.own, s)
	}
	e.ticks = grow(e.ticks, len(times))
	for i, t := range times {
		q := t / unit
		if q*unit != t {
			return nil, fmt.Errorf("%w: time %d is no multiple of %d ns", ErrInvalid, t, unit)
		}
		e.ticks[i] = q - base
	}
	return e.ints.append(append(dst, 0), e.ticks), nil
}

// startsWith reports whether s begins with prefix. Most columns that differ do
// so at their first time.
func startsWith(s, prefix []int64) bool {
	if len(s) < len(prefix) || s[0] != prefix[0] {
		return false
	}
	for i, t := range prefix {
		if s[i] != t {
			return false
		}
	}
	return true
}

func anyNotGood(qs []edgeagent.Quality) bool {
	for _, q := range qs {
		if q != edgeagent.Good {
			return true
		}
	}
	return false
}

// appendQualities writes runs: length × 4 + quality.
func appendQualities(dst []byte, qs []edgeagent.Quality) []byte {
	for i := 0; i < len(qs); {
		j := i + 1
		for j < len(qs) && qs[j] == qs[i] {
			j++
		}
		dst = binary.AppendUvarint(dst, uint64(j-i)<<2|uint64(qs[i]))
		i = j
	}
	return dst
}

// seal compresses raw if that makes it smaller, and appends header and payload.
func (e *Encoder) seal(dst []byte, h Header, raw []byte) ([]byte, error) {
	if len(raw) > int(h.Kind.maxRaw()) {
		return dst, ErrTooLarge
	}
	mark := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	dst = append(dst, raw...)
	h.RawLen, h.StoredLen = uint32(len(raw)), uint32(len(raw))
	if e.lz4 == nil {
		e.lz4 = new(lz4.Compressor)
	}
	// The room given is one byte less than the payload: 0 means no gain.
	n, err := e.lz4.CompressBlock(raw, dst[mark+HeaderSize:len(dst)-1])
	switch {
	case err == nil && n > 0:
		dst = dst[:mark+HeaderSize+n]
		h.Compressed, h.StoredLen = true, uint32(n)
	default:
		copy(dst[mark+HeaderSize:], raw)
	}
	if h.Size() > MaxStored {
		return dst[:mark], ErrTooLarge
	}
	if err := h.validate(); err != nil {
		return dst[:mark], fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	h.put(dst[mark:])
	return dst, nil
}

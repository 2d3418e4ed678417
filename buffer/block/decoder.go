package block

import (
	"math"

	"github.com/pierrec/lz4/v4"

	"github.com/edgeagent/edgeagent"
)

// Decoder reads blocks. The zero value is ready. It keeps scratch, so that
// decoding readings allocates nothing in steady state. Not for concurrent use.
//
// No input makes it panic. It allocates at most a small multiple of [MaxRaw] and
// of [MaxCount] records, whatever a block claims.
type Decoder struct {
	raw   []byte
	ints  integerDecoder
	value valueDecoder

	ids     []uint32
	wide    []int64 // ids as they are read
	row     []uint32
	succ    []uint32
	count   []int
	start   []int
	fill    []int
	time    []int64 // in units, from the block's earliest
	bits    []uint64
	quality []edgeagent.Quality
	counts  []int64 // of rollups
	guess   []float64
}

// open checks blk, which must be of kind k, and returns a reader of its payload.
func (d *Decoder) open(blk []byte, k Kind) (Header, reader, error) {
	h, err := Check(blk)
	if err != nil {
		return Header{}, reader{}, err
	}
	if h.Kind != k {
		return Header{}, reader{}, ErrKind
	}
	n := int(h.RawLen)
	d.raw = grow(d.raw, n+padding)
	clear(d.raw[n:])
	stored := blk[HeaderSize:]
	if h.Compressed {
		got, err := lz4.UncompressBlock(stored, d.raw[:n])
		if err != nil || got != n {
			return Header{}, reader{}, corrupt("payload does not decompress")
		}
	} else {
		copy(d.raw, stored)
	}
	return h, reader{b: d.raw, end: n}, nil
}

// Readings checks blk and appends its rows to dst, in the order in which they
// were appended.
func (d *Decoder) Readings(dst []Row, blk []byte) ([]Row, Header, error) {
	h, r, err := d.open(blk, KindReadings)
	if err != nil {
		return dst, Header{}, err
	}
	n := int(h.Count)
	if !d.readIDs(&r, n) || !d.readOrder(&r, n) {
		return dst, Header{}, corrupt("series of a reading")
	}
	d.time, d.bits, d.quality = grow(d.time, n), grow(d.bits, n), grow(d.quality, n)
	for s := range d.ids {
		if !d.readSeries(&r, s) {
			return dst, Header{}, corrupt("column")
		}
	}
	if r.left() != 0 {
		return dst, Header{}, corrupt("bytes after the last column")
	}
	u := unit(h.Resolution)
	base := h.MinTime / u
	if err := d.matches(h, base, u); err != nil {
		return dst, Header{}, err
	}
	return d.scatter(dst, n, base, u), h, nil
}

// readIDs reads the ids of the block's series, at most n.
func (d *Decoder) readIDs(r *reader, n int) bool {
	ns, ok := r.uvarint()
	if !ok || ns == 0 || ns > uint64(n) || ns > uint64(r.left()) {
		return false
	}
	d.wide = grow(d.wide, int(ns))
	if !d.ints.read(r, d.wide) {
		return false
	}
	d.ids = grow(d.ids, int(ns))
	for i, id := range d.wide {
		if id < 0 || id > math.MaxUint32 {
			return false
		}
		d.ids[i] = uint32(id)
	}
	return true
}

// readOrder reads the series of each of n rows, and places the columns.
func (d *Decoder) readOrder(r *reader, n int) bool {
	d.row, d.bits = grow(d.row, n), grow(d.bits, n)
	if !r.numbers(d.bits) {
		return false
	}
	ns := uint64(len(d.ids))
	d.succ = successors(d.succ, len(d.ids))
	last := uint32(ns - 1)
	for i, u := range d.bits {
		if u > ns {
			return false
		}
		if u > 0 {
			d.succ[last] = uint32(u - 1)
		}
		last = d.succ[last]
		d.row[i] = last
	}
	return d.place()
}

// place works out where the columns of each series begin. None is empty.
func (d *Decoder) place() bool {
	ns := len(d.ids)
	d.count, d.start, d.fill = grow(d.count, ns), grow(d.start, ns), grow(d.fill, ns)
	clear(d.count)
	for _, s := range d.row {
		d.count[s]++
	}
	at := 0
	for i, n := range d.count {
		if n == 0 {
			return false
		}
		d.start[i], d.fill[i] = at, at
		at += n
	}
	return true
}

func (d *Decoder) readSeries(r *reader, s int) bool {
	from, to := d.start[s], d.start[s]+d.count[s]
	tag, ok := r.byte()
	if !ok || !d.readTimes(r, s) {
		return false
	}
	d.value.ints = &d.ints
	if !d.value.read(r, tag, nil, d.bits[from:to]) {
		return false
	}
	if tag&tagQuality == 0 {
		clear(d.quality[from:to])
		return true
	}
	return readQualities(r, d.quality[from:to])
}

func (d *Decoder) readTimes(r *reader, s int) bool {
	ref, ok := r.uvarint()
	if !ok {
		return false
	}
	times := d.time[d.start[s]:][:d.count[s]]
	if ref == 0 {
		return d.ints.read(r, times)
	}
	back, skip := (ref+1)/2, int((ref+1)%2)
	if back > uint64(s) {
		return false
	}
	o := s - int(back)
	if d.count[o] < skip+len(times) {
		return false
	}
	copy(times, d.time[d.start[o]+skip:])
	return true
}

func readQualities(r *reader, dst []edgeagent.Quality) bool {
	for len(dst) > 0 {
		u, ok := r.uvarint()
		n := u >> 2
		if !ok || n == 0 || n > uint64(len(dst)) {
			return false
		}
		for i := range dst[:n] {
			dst[i] = edgeagent.Quality(u & 3)
		}
		dst = dst[n:]
	}
	return true
}

// matches holds the header's bounds against the rows: receivers trust the header
// before they decode.
func (d *Decoder) matches(h Header, base, u int64) error {
	lo, hi := uint64(d.time[0]), uint64(d.time[0])
	for _, t := range d.time {
		lo, hi = min(lo, uint64(t)), max(hi, uint64(t))
	}
	var id uint32
	for _, x := range d.ids {
		id = max(id, x)
	}
	span := (uint64(h.MaxTime) - uint64(h.MinTime)) / uint64(u)
	last := (base + int64(span)) * u
	if base*u != h.MinTime || last != h.MaxTime || lo != 0 || hi != span || id != h.MaxSeriesID {
		return corrupt("header does not match the rows")
	}
	return nil
}

// scatter appends the rows in order.
func (d *Decoder) scatter(dst []Row, n int, base, u int64) []Row {
	at := len(dst)
	if cap(dst)-at < n {
		dst = append(make([]Row, 0, at+n), dst...)
	}
	dst = dst[:at+n]
	out := dst[at:]
	for i, s := range d.row {
		j := d.fill[s]
		d.fill[s]++
		out[i] = Row{d.ids[s], (base + d.time[j]) * u, math.Float64frombits(d.bits[j]), d.quality[j]}
	}
	return dst
}

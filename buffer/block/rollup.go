package block

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/edgeagent/edgeagent"
)

// RollupRow stands for the readings of one series in one bucket of time.
type RollupRow struct {
	Series uint32
	Time   int64  // Unix ns, of the first reading in the bucket, whatever its value
	Count  uint64 // readings that the row speaks of: finite and not [edgeagent.Bad]; 1 and more
	Sum    float64
	Min    float64
	Max    float64
	First  float64 // in the order of append
	Last   float64
}

// RollupSource says what records a rollup stands for. They are of its own epoch.
type RollupSource struct {
	Stream edgeagent.Stream // telemetry, or rollup if rows were thinned
	From   edgeagent.Seq    // both included
	To     edgeagent.Seq
	Bucket uint32 // seconds, 1 and more
}

// The columns of values, in the order in which they are written: each can be
// guessed from those before it, see [guesses].
const (
	columnLast = iota
	columnFirst
	columnMin
	columnMax
	columnSum
	rollupColumns
)

// tagGuessed says that the integers of a column are what a guess leaves. It takes
// the place of [tagQuality], which rollups do not have.
const tagGuessed = 1 << 3

// Rollup appends a block of rows to dst. It refuses no rows ([ErrEmpty]), more
// than [MaxRecords] of them or a block beyond [MaxStored] ([ErrTooLarge]: 256
// rows always fit), a source or a count out of bounds and a time that is no
// multiple of the resolution. It takes every float64 as it is.
func (e *Encoder) Rollup(dst []byte, id ID, src RollupSource, rows []RollupRow) ([]byte, error) {
	h := id.header(KindRollup, len(rows))
	switch {
	case len(rows) == 0:
		return dst, ErrEmpty
	case len(rows) > MaxRecords:
		return dst, ErrTooLarge
	case id.Resolution > maxResolution:
		return dst, fmt.Errorf("%w: resolution %d", ErrInvalid, id.Resolution)
	case !src.valid():
		return dst, fmt.Errorf("%w: source of a rollup: %s %d to %d by %d s", ErrInvalid, src.Stream, src.From, src.To, src.Bucket)
	}
	if err := e.gatherRollup(&h, rows); err != nil {
		return dst, err
	}
	raw := src.append(e.raw[:0])
	raw = e.appendIDs(raw)
	raw = e.appendOrder(raw, len(rows))
	e.own = e.own[:0]
	u := unit(id.Resolution)
	for s := range e.series.ids {
		var err error
		if raw, err = e.appendTimes(raw, s, u, h.MinTime/u); err != nil {
			return dst, err
		}
		raw = e.appendRollupColumns(raw, s, len(rows))
	}
	e.raw = raw
	return e.seal(dst, h, raw)
}

func (s RollupSource) valid() bool {
	return (s.Stream == edgeagent.StreamTelemetry || s.Stream == edgeagent.StreamRollup) &&
		s.From > 0 && s.From <= s.To && s.To <= maxSeq && s.Bucket > 0
}

func (s RollupSource) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(s.Stream))
	dst = binary.AppendUvarint(dst, uint64(s.From))
	dst = binary.AppendUvarint(dst, uint64(s.To-s.From))
	return binary.AppendUvarint(dst, uint64(s.Bucket))
}

// gatherRollup sorts the rows into columns, and fills in what the header says of
// them.
func (e *Encoder) gatherRollup(h *Header, rows []RollupRow) error {
	n := len(rows)
	e.series.reset()
	e.row = grow(e.row, n)
	lo, hi, maxID := rows[0].Time, rows[0].Time, uint32(0)
	for i := range rows {
		r := &rows[i]
		if r.Count == 0 || r.Count > maxSeq {
			return fmt.Errorf("%w: rollup of %d readings", ErrInvalid, r.Count)
		}
		s := e.series.number(r.Series)
		e.row[i] = s
		e.series.count[s]++
		lo, hi, maxID = min(lo, r.Time), max(hi, r.Time), max(maxID, r.Series)
	}
	h.MinTime, h.MaxTime, h.MaxSeriesID = lo, hi, maxID
	e.series.place()
	e.time, e.counts, e.bits = grow(e.time, n), grow(e.counts, n), grow(e.bits, rollupColumns*n)
	for i := range rows {
		r, s := &rows[i], e.row[i]
		at := e.series.fill[s]
		e.series.fill[s]++
		e.time[at], e.counts[at] = r.Time, int64(r.Count)
		for c, v := range [rollupColumns]float64{r.Last, r.First, r.Min, r.Max, r.Sum} {
			e.bits[c*n+at] = math.Float64bits(v)
		}
	}
	return nil
}

// appendRollupColumns writes the counts and values of one series in a block of n
// rows.
func (e *Encoder) appendRollupColumns(dst []byte, s, n int) []byte {
	from, to := e.series.start[s], e.series.start[s]+e.series.count[s]
	counts := e.counts[from:to]
	dst = e.ints.append(dst, counts)
	e.value.ints = &e.ints
	var columns [rollupColumns][]uint64
	for c := range columns {
		columns[c] = e.bits[c*n+from : c*n+to]
		var guess []float64
		if c != columnLast {
			e.guess = guesses(e.guess, c, counts, &columns)
			guess = e.guess
		}
		mark := len(dst)
		var tag byte
		dst, tag = e.value.appendGuessed(append(dst, 0), columns[c], guess)
		dst[mark] = tag
	}
	return dst
}

// guesses returns what column c is likely to be, by the counts and the columns
// before it; there is no guess at the first. A bucket begins where the one before it
// ended, its least and greatest are no further in than its ends, and the mean is
// half way between them.
//
// Encoder and decoder must agree by bits on every machine: no product is added
// to, which some machines would round once instead of twice.
func guesses(dst []float64, c int, counts []int64, columns *[rollupColumns][]uint64) []float64 {
	at := func(c, i int) float64 { return math.Float64frombits(columns[c][i]) }
	dst = grow(dst, len(counts))
	for i := range dst {
		switch c {
		case columnFirst:
			dst[i] = at(columnLast, max(i-1, 0))
		case columnMin:
			dst[i] = at(columnFirst, i)
			if last := at(columnLast, i); last < dst[i] {
				dst[i] = last
			}
		case columnMax:
			dst[i] = at(columnFirst, i)
			if last := at(columnLast, i); last > dst[i] {
				dst[i] = last
			}
		case columnSum:
			dst[i] = (at(columnMin, i) + at(columnMax, i)) * float64(counts[i]) / 2
		}
	}
	return dst
}

// Rollup checks blk and appends its rows to dst, in the order in which they were
// encoded.
func (d *Decoder) Rollup(dst []RollupRow, blk []byte) ([]RollupRow, RollupSource, Header, error) {
	fail := func(err error) ([]RollupRow, RollupSource, Header, error) {
		return dst, RollupSource{}, Header{}, err
	}
	h, r, err := d.open(blk, KindRollup)
	if err != nil {
		return fail(err)
	}
	src, ok := readSource(&r)
	if !ok {
		return fail(corrupt("source of a rollup"))
	}
	n := int(h.Count)
	if !d.readIDs(&r, n) || !d.readOrder(&r, n) {
		return fail(corrupt("series of a rollup"))
	}
	d.time, d.counts, d.bits = grow(d.time, n), grow(d.counts, n), grow(d.bits, rollupColumns*n)
	for s := range d.ids {
		if !d.readTimes(&r, s) || !d.readRollupColumns(&r, s, n) {
			return fail(corrupt("column of a rollup"))
		}
	}
	if r.left() != 0 {
		return fail(corrupt("bytes after the last column"))
	}
	u := unit(h.Resolution)
	base := h.MinTime / u
	if err := d.matches(h, base, u); err != nil {
		return fail(err)
	}
	return d.scatterRollup(dst, n, base, u), src, h, nil
}

func readSource(r *reader) (RollupSource, bool) {
	var u [4]uint64 // stream, from, to - from, bucket
	for i := range u {
		var ok bool
		if u[i], ok = r.uvarint(); !ok || u[i] > maxSeq {
			return RollupSource{}, false
		}
	}
	if u[0] > math.MaxUint8 || u[3] > math.MaxUint32 {
		return RollupSource{}, false
	}
	s := RollupSource{edgeagent.Stream(u[0]), edgeagent.Seq(u[1]), edgeagent.Seq(u[1] + u[2]), uint32(u[3])}
	return s, s.valid()
}

func (d *Decoder) readRollupColumns(r *reader, s, n int) bool {
	from, to := d.start[s], d.start[s]+d.count[s]
	if !d.ints.read(r, d.counts[from:to]) {
		return false
	}
	for _, c := range d.counts[from:to] {
		if c < 1 || c > maxSeq {
			return false
		}
	}
	counts := d.counts[from:to]
	d.value.ints = &d.ints
	var columns [rollupColumns][]uint64
	for c := range columns {
		columns[c] = d.bits[c*n+from : c*n+to]
		tag, ok := r.byte()
		if !ok {
			return false
		}
		var guess []float64
		if tag&tagGuessed != 0 {
			if c == columnLast || valueForm(tag&tagForm) > decimal32Except {
				return false
			}
			d.guess = guesses(d.guess, c, counts, &columns)
			guess = d.guess
		}
		if !d.value.read(r, tag, guess, columns[c]) {
			return false
		}
	}
	return true
}

// scatterRollup appends the rows in order.
func (d *Decoder) scatterRollup(dst []RollupRow, n int, base, u int64) []RollupRow {
	at := len(dst)
	if cap(dst)-at < n {
		dst = append(make([]RollupRow, 0, at+n), dst...)
	}
	dst = dst[:at+n]
	out := dst[at:]
	for i, s := range d.row {
		j := d.fill[s]
		d.fill[s]++
		value := func(c int) float64 { return math.Float64frombits(d.bits[c*n+j]) }
		out[i] = RollupRow{
			Series: d.ids[s], Time: (base + d.time[j]) * u, Count: uint64(d.counts[j]),
			Sum: value(columnSum), Min: value(columnMin), Max: value(columnMax), First: value(columnFirst), Last: value(columnLast),
		}
	}
	return dst
}

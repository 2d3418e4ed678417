package rollup

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Bounds of a piece, in rows.
const (
	// pieceRows is what a piece must have to end at the next bucket: a full block.
	pieceRows = block.MaxRecords
	// maxRows ends a piece within a bucket. It is more than there can be series, so
	// that a bucket fits whose readings come in order.
	maxRows = 4 * block.MaxRecords
)

// Piece is what a range of readings was folded to. Rows are ordered by series and
// time. They are valid until the folder goes on.
type Piece struct {
	Source block.RollupSource
	Rows   []block.RollupRow
}

// Folder folds readings of the telemetry stream. Create one with [New].
type Folder struct {
	bucket int64 // ns
	source block.RollupSource
	rows   []block.RollupRow
	newest int64 // the bucket begun last

	// of finds the row of a series and bucket; latest is the one that the series
	// met last, by id, which saves most lookups.
	of     map[key]int32
	latest []latest
}

type key struct {
	series uint32
	bucket int64
}

type latest struct {
	bucket int64
	row    int32 // +1, 0 is none
}

// directIDs bounds the ids whose latest row is in a slice. The buffer gives no
// larger ones.
const directIDs = 1 << 14

// New returns a folder with buckets of that length, whole seconds, at least one.
func New(bucket time.Duration) *Folder {
	seconds := max(1, bucket/time.Second)
	return &Folder{
		bucket: int64(seconds * time.Second), of: map[key]int32{},
		source: block.RollupSource{Stream: edgeagent.StreamTelemetry, Bucket: uint32(seconds)},
	}
}

// Add folds the reading with number seq, which is above all that were added before.
// It calls emit with the piece that ended before it, if one did, and returns
// what emit returns.
func (f *Folder) Add(seq edgeagent.Seq, r *block.Row, emit func(Piece) error) error {
	b := floorDiv(r.Time, f.bucket)
	at := f.find(r.Series, b)
	if at == 0 && f.ends(b) {
		if err := f.Flush(emit); err != nil {
			return err
		}
	}
	if f.source.From == 0 {
		f.source.From = seq
	}
	f.source.To = seq
	if at == 0 {
		f.begin(r, b)
		return nil
	}
	f.rows[at-1] = add(f.rows[at-1], r)
	return nil
}

// ends reports whether a piece is at its end before a new row of a bucket.
func (f *Folder) ends(bucket int64) bool {
	n := len(f.rows)
	return n >= maxRows || n >= pieceRows && bucket > f.newest
}

// find returns the row of a series in a bucket plus one, 0 if there is none.
func (f *Folder) find(series uint32, bucket int64) int32 {
	if series < uint32(len(f.latest)) {
		if l := f.latest[series]; l.row == 0 || l.bucket == bucket {
			return l.row
		}
	}
	at := f.of[key{series, bucket}]
	if at != 0 && series < uint32(len(f.latest)) {
		f.latest[series] = latest{bucket, at}
	}
	return at
}

func (f *Folder) begin(r *block.Row, bucket int64) {
	if len(f.rows) == 0 || bucket > f.newest {
		f.newest = bucket
	}
	f.rows = append(f.rows, add(block.RollupRow{Series: r.Series, Time: r.Time}, r))
	at := int32(len(f.rows))
	f.of[key{r.Series, bucket}] = at
	if r.Series >= directIDs {
		return
	}
	for uint32(len(f.latest)) <= r.Series {
		f.latest = append(f.latest, latest{})
	}
	f.latest[r.Series] = latest{bucket, at}
}

// Flush ends the piece and calls emit with it, unless it has no rows.
func (f *Folder) Flush(emit func(Piece) error) error {
	source, rows := f.source, f.rows
	f.source.From, f.source.To, f.rows = 0, 0, f.rows[:0]
	for i := range rows {
		if id := rows[i].Series; id < uint32(len(f.latest)) {
			f.latest[id] = latest{}
		}
	}
	clear(f.of)
	rows = slices.DeleteFunc(rows, func(r block.RollupRow) bool { return r.Count == 0 })
	if len(rows) == 0 {
		return nil
	}
	for i := range rows {
		rows[i].Sum = round15(rows[i].Sum)
	}
	slices.SortStableFunc(rows, func(a, b block.RollupRow) int {
		return cmp.Or(cmp.Compare(a.Series, b.Series), cmp.Compare(a.Time, b.Time))
	})
	return emit(Piece{source, rows})
}

// add returns row with a reading added, if it counts.
func add(row block.RollupRow, r *block.Row) block.RollupRow {
	v := r.Value
	if r.Quality == edgeagent.Bad || v-v != 0 { // NaN and infinities are not 0 away from themselves
		return row
	}
	if row.Count == 0 {
		row.First, row.Min, row.Max = v, v, v
	}
	row.Count++
	row.Sum += v
	row.Last = v
	if v < row.Min {
		row.Min = v
	}
	if v > row.Max {
		row.Max = v
	}
	return row
}

// floorDiv rounds towards the past, so that buckets before 1970 are as long as
// the others.
func floorDiv(t, unit int64) int64 {
	q := t / unit
	if t%unit < 0 {
		q--
	}
	return q
}

// powers of ten that a float64 holds exactly.
var pow10 = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// round15 rounds v to 15 significant digits, if 22 decimals are enough for them.
// It is the same on every machine: no product is added to.
func round15(v float64) float64 {
	abs := math.Abs(v)
	if abs >= 1e15 || abs < 1e-7 {
		return v
	}
	e := 0
	for e < len(pow10)-1 && abs*pow10[e] < 1e14 {
		e++
	}
	return math.RoundToEven(v*pow10[e]) / pow10[e]
}

package headlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// minRow is what a row takes at least: a byte of series and quality, a byte of
// time, the value.
const minRow = 1 + 1 + 8

// maxResolution is 1 s.
const maxResolution = 9

var powers = [maxResolution + 1]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// AppendRows appends the payload of a Readings frame to dst: per row a uvarint of
// series and quality, a varint of the time since the row before, and the value's
// 8 bytes, 10 to 11 bytes as a rule. It allocates only when dst must grow.
//
// resolution is that of the finest series (see [Frame]); base and used belong
// into the frame. used is 0 if some time is no multiple of 10^resolution ns:
// nothing is rounded.
func AppendRows(dst []byte, rows []block.Row, resolution uint8) (payload []byte, base int64, used uint8) {
	if len(rows) == 0 {
		return dst, 0, 0
	}
	used = min(resolution, maxResolution)
	for i := range rows {
		if rows[i].Time%powers[used] != 0 {
			used = 0
			break
		}
	}
	unit := powers[used]
	base = rows[0].Time
	last := base / unit
	for i := range rows {
		r := &rows[i]
		t := r.Time / unit
		dst = binary.AppendUvarint(dst, uint64(r.Series)<<2|uint64(r.Quality&3))
		dst = binary.AppendVarint(dst, t-last)
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(r.Value))
		last = t
	}
	return dst, base, used
}

var errRows = errors.New("rows of a head frame are damaged")

// DecodeRows appends the readings of a frame to dst. Any payload is an error or
// rows, as many as the frame counts; no more is allocated than the payload could
// hold.
func DecodeRows(dst []block.Row, f Frame) ([]block.Row, error) {
	b := f.Payload
	if f.Kind != Readings || f.Resolution > maxResolution || uint64(f.Count) > uint64(len(b)/minRow) {
		return dst, fmt.Errorf("%w: %d rows in %d bytes", errRows, f.Count, len(b))
	}
	unit := powers[f.Resolution]
	if f.Base%unit != 0 {
		return dst, fmt.Errorf("%w: time base", errRows)
	}
	t, out := f.Base/unit, dst
	for i := range int(f.Count) {
		key, n := binary.Uvarint(b)
		if n <= 0 || key>>2 > math.MaxUint32 {
			return dst, fmt.Errorf("%w: series of row %d", errRows, i)
		}
		b = b[n:]
		delta, n := binary.Varint(b)
		if n <= 0 || len(b) < n+8 {
			return dst, fmt.Errorf("%w: row %d", errRows, i)
		}
		t += delta
		out = append(out, block.Row{
			Series: uint32(key >> 2), Quality: edgeagent.Quality(key & 3), Time: t * unit,
			Value: math.Float64frombits(binary.LittleEndian.Uint64(b[n:])),
		})
		b = b[n+8:]
	}
	if len(b) > 0 {
		return dst, fmt.Errorf("%w: %d bytes too many", errRows, len(b))
	}
	return out, nil
}

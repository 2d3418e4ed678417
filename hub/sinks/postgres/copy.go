package postgres

import (
	"encoding/binary"
	"math"

	"github.com/edgeagent/edgeagent/hub"
)

// The binary format of COPY: https://www.postgresql.org/docs/current/sql-copy.html.
// Encoded here because it costs a quarter of what the driver's general way does.

const copyHeader = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

const copyReadings = `COPY readings (time, seq, value, run, epoch_id, series, quality) FROM STDIN (FORMAT binary)`

const copyRollups = `COPY rollups (time, seq, count, sum, min, max, first, last, run, epoch_id, series, bucket_s) FROM STDIN (FORMAT binary)`

// appendReadings appends rows as COPY takes them, in the given order; run is nil where times are right.
func appendReadings(b []byte, epoch int32, rows []hub.Row, order []int32, run *int64) []byte {
	b = append(b, copyHeader...)
	for _, i := range order {
		r := &rows[i]
		b = binary.BigEndian.AppendUint16(b, 7)
		b = field8(b, uint64(r.Time))
		b = field8(b, uint64(r.Seq))
		b = field8(b, math.Float64bits(r.Value))
		b = nullable(b, run)
		b = field4(b, uint32(epoch))
		b = field4(b, r.ID)
		b = field2(b, uint16(r.Quality))
	}
	return binary.BigEndian.AppendUint16(b, math.MaxUint16)
}

func appendRollups(b []byte, epoch int32, rows []hub.Rollup, run *int64) []byte {
	b = append(b, copyHeader...)
	for i := range rows {
		r := &rows[i]
		b = binary.BigEndian.AppendUint16(b, 12)
		b = field8(b, uint64(r.At.Wall))
		b = field8(b, uint64(r.Seq))
		b = field8(b, min(r.Count, math.MaxInt64))
		for _, v := range [...]float64{r.Sum, r.Min, r.Max, r.First, r.Last} {
			b = field8(b, math.Float64bits(v))
		}
		b = nullable(b, run)
		b = field4(b, uint32(epoch))
		b = field4(b, r.ID)
		b = field4(b, uint32(min(r.Bucket.Seconds(), math.MaxInt32)))
	}
	return binary.BigEndian.AppendUint16(b, math.MaxUint16)
}

func field8(b []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), v)
}

func field4(b []byte, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), v)
}

func field2(b []byte, v uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, 2), v)
}

func nullable(b []byte, v *int64) []byte {
	if v == nil {
		return binary.BigEndian.AppendUint32(b, math.MaxUint32)
	}
	return field8(b, uint64(*v))
}

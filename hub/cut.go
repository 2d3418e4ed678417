package hub

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Sink takes records to a place that cannot keep a hub's memory in the same
// transaction. Commit is called by one goroutine at a time. nil means that the whole
// cut is stored for good; after an error nobody knows. Then, and after a crash between
// Commit and the note of it in the hub's [Store], the very same cut comes again: same
// [Cut.ID], same records, same times, and before anything else of its stream. A sink
// that leaves out what it has seen under the same ID, or that overwrites it, holds each
// record once; any other holds each at least once. The cut's slices are used again
// after Commit has returned.
type Sink interface {
	Commit(ctx context.Context, c Cut) error
}

// Corrector is a [Sink] that wants to hear by how much clocks were wrong: it has kept
// records of those runs with the raw time and the mark that it was unsynced. A
// correction may come more than once.
type Corrector interface {
	Correct(ctx context.Context, id EpochID, c Correction) error
}

// Cut is the part of one block that the hub does not hold yet.
type Cut struct {
	Tenant string
	Device string
	Epoch  edgeagent.Epoch
	Stream edgeagent.Stream
	Run    edgeagent.Run
	// Ranges are the numbers of the records, rising and disjoint.
	Ranges []edgeagent.Range
	// Rows are the readings, or Rollups the rollups, or Events the events; the
	// others are empty.
	Rows    []Row
	Rollups []Rollup
	Events  []Event
	// Unsynced: the times were taken while the agent's clock could not be
	// trusted.
	Unsynced bool
	Received time.Time

	hdr    block.Header // of the block that it was cut from
	blk    []byte
	source block.RollupSource
	add    time.Duration // to the times
}

// EpochID returns which epoch the cut is of.
func (c Cut) EpochID() EpochID { return EpochID{c.Tenant, c.Device, c.Epoch} }

// ID names the cut: tenant/device/epoch/stream/first-last, and whatever stands between
// if the ranges have holes. The same ID always means the same records.
func (c Cut) ID() string {
	b := fmt.Appendf(nil, "%s/%s/%s/%s/", c.Tenant, c.Device, c.Epoch, c.Stream)
	for i, r := range c.Ranges {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%d-%d", r.From, r.To)
	}
	return string(b)
}

// Len returns how many records the cut holds.
func (c Cut) Len() int { return len(c.Rows) + len(c.Rollups) + len(c.Events) }

// Row is one reading.
type Row struct {
	Seq     edgeagent.Seq
	Series  edgeagent.Series
	ID      uint32 // of the series within its epoch
	Time    int64  // Unix ns
	Value   float64
	Quality edgeagent.Quality
}

// Rollup is what an agent has kept of the readings of one series and bucket of
// time: those themselves are in a gap that the agent names. The bucket may have
// rows besides this one.
type Rollup struct {
	Seq edgeagent.Seq
	ID  uint32 // of the series within its epoch
	edgeagent.Rollup
}

// Event is one event with its number.
type Event struct {
	Seq edgeagent.Seq
	edgeagent.Event
}

// BySeries appends the places of rows to dst, by series and within a series as they
// came. Stores write in this order, because rows that are asked for together then lie
// together.
func BySeries(dst []int32, rows []Row) []int32 {
	most := uint32(0)
	for i := range rows {
		most = max(most, rows[i].ID)
	}
	from := len(dst)
	dst = slices.Grow(dst, len(rows))[:from+len(rows)]
	out := dst[from:]
	if uint64(most) > uint64(4*len(rows)+1024) { // few rows of high ids: no room is made for those in between
		for i := range out {
			out[i] = int32(i)
		}
		slices.SortStableFunc(out, func(a, b int32) int { return cmp.Compare(rows[a].ID, rows[b].ID) })
		return dst
	}
	place := make([]int32, most+2)
	for i := range rows {
		place[rows[i].ID+1]++
	}
	for id := range most {
		place[id+1] += place[id]
	}
	for i := range rows {
		id := rows[i].ID
		out[place[id]] = int32(i)
		place[id]++
	}
	return dst
}

package hub

import (
	"context"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Sink stores what the hub has received. Commit is called by one goroutine at a
// time and each record is committed once, as long as Commit tells the truth: nil
// means that the whole cut is stored, an error that none of it is. The hub tries
// the same cut again after an error. The cut's slices are used again after Commit
// has returned.
type Sink interface {
	Commit(ctx context.Context, c Cut) error
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
}

// Len returns how many records the cut holds.
func (c Cut) Len() int { return len(c.Rows) + len(c.Rollups) + len(c.Events) }

// Row is one reading.
type Row struct {
	Seq     edgeagent.Seq
	Series  edgeagent.Series
	Time    int64 // Unix ns
	Value   float64
	Quality edgeagent.Quality
}

// Rollup is what an agent has kept of the readings of one series and bucket of
// time: those themselves are in a gap that the agent names. The bucket may have
// rows besides this one.
type Rollup struct {
	Seq edgeagent.Seq
	edgeagent.Rollup
}

// Event is one event with its number.
type Event struct {
	Seq edgeagent.Seq
	edgeagent.Event
}

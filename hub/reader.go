package hub

import (
	"context"
	"iter"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Reader answers questions about the records in a store. It may be used while a hub
// works on the same store, and sees what was committed before it was asked.
type Reader interface {
	// Series returns the series of a device, or of all devices of a tenant, or of all,
	// by tenant, device and name. A series that several epochs have is there once.
	Series(ctx context.Context, tenant, device string) ([]StoredSeries, error)
	// Read returns records in order of time. The sequence ends after an error.
	Read(ctx context.Context, q Query) iter.Seq2[Stored, error]
}

// StoredSeries is one series of one device.
type StoredSeries struct {
	Tenant, Device string
	Key            edgeagent.SeriesKey
}

// Query says which records to read. What is empty does not narrow it.
type Query struct {
	Tenant, Device string
	Stream         edgeagent.Stream // 0 is telemetry
	Series         string           // "sensor/metric"
	From, To       time.Time        // From is included, To is not
	Limit          int
	Newest         bool // begin with the newest
}

// Stored is one record as it is kept.
type Stored struct {
	Tenant, Device string
	Epoch          edgeagent.Epoch
	Stream         edgeagent.Stream
	Row            Row     // of a reading
	Rollup         *Rollup // of a rollup
	Event          *Event  // of an event
	// Unsynced: its time was taken without a clock and has not been corrected.
	Unsynced bool
}

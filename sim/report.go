package sim

import (
	"sync"
	"time"
)

// Report is the verdict of a demo. Its JSON form is a contract: fields are added,
// never renamed (docs/reference/cli-json.md).
type Report struct {
	Taken      uint64 `json:"taken"`      // readings that sources returned
	Accepted   uint64 `json:"accepted"`   // records for which an append returned nil: alarms, events, telemetry
	Delivered  uint64 `json:"delivered"`  // distinct (epoch, stream, seq) in the receiver's sink
	Lost       int64  `json:"lost"`       // accepted − delivered − what reported gaps account for
	Duplicates uint64 `json:"duplicates"` // records stored twice
	Resent     uint64 `json:"resent"`     // received again and dropped by dedupe
	Gaps       uint64 `json:"gaps"`       // holes at the receiver that no gap explains
	Alarms     uint64 `json:"alarms"`     // alarm transitions
	// FirstLiveAfter is the time from CONNACK after the outage to the arrival of
	// the first reading taken after it; 0 without an outage.
	FirstLiveAfter float64 `json:"first_live_after_s"`
	// DrainRate is how fast the readings taken during the outage arrived.
	DrainRate float64 `json:"drain_readings_per_s"`
	LinkDown  bool    `json:"link_down_seen"`
	LinkUp    bool    `json:"link_up_again_seen"`
	Seconds   float64 `json:"seconds"`
	OK        bool    `json:"ok"`
}

// judge fills in what follows from the counts.
func (r *Report) judge(gapRecords uint64, outage bool) {
	r.Lost = int64(r.Accepted) - int64(r.Delivered) - int64(gapRecords)
	r.OK = r.Lost == 0 && r.Duplicates == 0 && r.Gaps == 0 && r.Delivered > 0
	if outage {
		r.OK = r.OK && r.LinkDown && r.LinkUp
	}
}

// Snapshot is what the demo shows while it runs.
type Snapshot struct {
	Elapsed  time.Duration
	Final    bool
	Link     string // the uplink's state in a word
	Cut      bool   // the demo holds the link cut
	Taken    uint64
	Buffered uint64 // records that the receiver has not confirmed
	Sent     uint64 // records handed to the link, resends included
	Received uint64 // distinct records in the receiver's sink
	Resent   uint64
	Doubled  uint64 // records stored twice
	Gaps     uint64
	Alarms   uint64
	Firing   []string // texts of the alarms that fire now
	Latest   []string // latest values, "sensor/metric value unit"
}

// arrivals remembers what the verdict needs about the time around the reconnect:
// when which readings arrived. It keeps one entry per commit, bounded.
type arrivals struct {
	mu      sync.Mutex
	entries []arrival
}

type arrival struct {
	at          time.Time // of the commit in the receiver's sink
	count       int       // new readings in it
	first, last int64     // wall time of the earliest and the latest of them, Unix ns
}

// maxArrivals is far more than the commits of the demo's longest outage; beyond
// it new entries are dropped, which only blurs the drain rate.
const maxArrivals = 100_000

func (a *arrivals) add(e arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.entries) < maxArrivals {
		a.entries = append(a.entries, e)
	}
}

// reset forgets what came before the outage.
func (a *arrivals) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = a.entries[:0]
}

// around returns, for a link that came up at up: how long the first reading taken
// after that took to arrive, and the rate at which those taken before arrived.
func (a *arrivals) around(up time.Time) (firstLive time.Duration, drainPerSecond float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var drained int
	var drainEnd time.Time
	for _, e := range a.entries {
		if e.at.Before(up) {
			continue
		}
		if firstLive == 0 && e.last >= up.UnixNano() {
			firstLive = e.at.Sub(up)
		}
		if e.first < up.UnixNano() {
			drained += e.count
			drainEnd = e.at
		}
	}
	if took := drainEnd.Sub(up); drained > 0 && took > 0 {
		drainPerSecond = float64(drained) / took.Seconds()
	}
	return firstLive, drainPerSecond
}

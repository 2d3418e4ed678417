package edgeagent

import "fmt"

// Quality says how far a reading can be trusted. It travels beside the value in
// every format; [Good] is the zero value and takes no space in a block.
type Quality uint8

// The four qualities. "Unsynced" is not one of them: it is a flag of the batch,
// set while the clock could not be trusted.
const (
	Good    Quality = 0 // the value is what the sensor measured
	Suspect Quality = 1 // measured, but a check doubts it (stuck, noisy)
	Stale   Quality = 2 // the last known value, not a fresh one
	Bad     Quality = 3 // outside what is physically possible; do not use it
)

var qualityNames = [...]string{"good", "suspect", "stale", "bad"}

// String returns the name used in every text format.
func (q Quality) String() string {
	if int(q) < len(qualityNames) {
		return qualityNames[q]
	}
	return fmt.Sprintf("quality(%d)", uint8(q))
}

// Instant is a point in time on two clocks.
type Instant struct {
	// Wall is Unix time in nanoseconds, as good as the machine's clock is.
	Wall int64
	// Run is the time since the start of this run in nanoseconds: monotonic,
	// never stepped, time in suspend included. Rules and timers use it.
	Run int64
}

// Reading is one measured value of one series.
type Reading struct {
	Series  Series
	At      Instant
	Value   float64 // any bit pattern; SI units unless the series says otherwise
	Quality Quality
	// Recorded marks a wall time that the source itself supplied (a replay, a
	// device with its own clock). Such a time is rounded to the series'
	// resolution and otherwise kept, even when it repeats or goes back; a time
	// that the agent took itself is made to rise within its series.
	Recorded bool
}

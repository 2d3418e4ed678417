package sensors

import (
	"time"

	"github.com/edgeagent/edgeagent"
)

// Codes of a source's [edgeagent.Health].
const (
	CodeStarting = "sensor-starting" // not opened yet
	CodeOpen     = "sensor-open"     // cannot be opened: missing bus, missing file
	CodeFailing  = "sensor-failing"  // a sample failed
	CodePartial  = "sensor-partial"  // a sample gave readings and an error within the last minute
	CodeStuck    = "sensor-stuck"    // a call into the driver does not return
	CodePanic    = "sensor-panic"    // the driver panicked
	CodeSink     = "sensor-sink"     // readings could not be handed on
	CodeEnded    = "source-ended"    // the source has ended by itself
)

// maxLast bounds how many series of a source [SourceStats.Last] shows.
const maxLast = 32

// SourceStats is what the scheduler knows of one source. Counts are since the
// start of Run.
type SourceStats struct {
	Name     string
	Driver   string
	Interval time.Duration

	Samples  uint64 // calls of Sample
	Readings uint64 // taken, that is handed to the sink
	Errors   uint64 // failed opens and samples, refused readings, panics
	Missed   uint64 // ticks that passed without a sample
	Refused  uint64 // readings refused for being NaN, infinite or nameless
	Dropped  uint64 // taken readings that the sink did not accept

	LastError  string
	LastSample edgeagent.Instant // of the last sample that gave a reading; zero if none
	// Last is the newest reading of each series, at most 32 series.
	Last   []edgeagent.Reading
	Health edgeagent.Health
}

// remember keeps the newest reading of each series. Only the tail of a large batch
// is looked at, which bounds the cost per sample.
func (s *SourceStats) remember(rs []edgeagent.Reading) {
	if len(rs) == 0 {
		return
	}
	s.LastSample = rs[len(rs)-1].At
	for _, r := range rs[max(0, len(rs)-2*maxLast):] {
		s.rememberOne(r)
	}
}

func (s *SourceStats) rememberOne(r edgeagent.Reading) {
	for i := range s.Last {
		if s.Last[i].Series == r.Series {
			s.Last[i] = r
			return
		}
	}
	if len(s.Last) < maxLast {
		s.Last = append(s.Last, r)
	}
}

package buffer

import (
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/edgeagent/edgeagent"
)

// Survey is what can be said of a buffer without reading its records: what
// [Buffer.Survey] knows of a running one, and [ReadOnly.Survey] of a stopped one.
type Survey struct {
	Dir     string
	Device  string // whose readings they are; empty when nothing says so
	Running bool
	// Clean: the last run ended in order. A running buffer is never clean.
	Clean    bool
	Run      edgeagent.Run // this one, or the last one
	Used     int64         // bytes on the disk, by allocated blocks
	MaxBytes int64         // 0 when unknown: only the configuration says it
	// Quarantined are copies of damaged files.
	Quarantined     int
	QuarantineBytes int64

	Epochs       []EpochSurvey // oldest first
	Destinations []DestinationSurvey
	Segments     []SegmentSurvey // by epoch, stream and number
	Gaps         []Gap           // as [Buffer.Gaps]
	Runs         []RunSurvey     // by epoch, stream and number
	Series       []SeriesSurvey  // by epoch and id
}

// EpochSurvey is one epoch.
type EpochSurvey struct {
	Epoch  edgeagent.Epoch
	Reason string // why it began
	// Streams holds what the epoch knows of each stream.
	Streams map[edgeagent.Stream]StreamSurvey
}

// StreamSurvey is one stream of one epoch.
type StreamSurvey struct {
	Next     edgeagent.Seq // number of the next record
	Low      edgeagent.Seq // nothing below can be delivered
	Records  uint64        // stored, confirmed or not
	Segments int
	Bytes    int64 // on the disk
	Oldest   int64 // wall time, Unix ns; 0 when nothing is stored
	Newest   int64
}

// SegmentState says what may become of a segment.
type SegmentState string

// The states. A segment that is open and confirmed counts as open.
const (
	SegmentOpen      SegmentState = "open"      // appended to
	SegmentSealed    SegmentState = "sealed"    // some destination has not confirmed all of it
	SegmentConfirmed SegmentState = "confirmed" // may go without a gap
	SegmentDamaged   SegmentState = "damaged"   // the next start keeps what is whole of it
	SegmentUnused    SegmentState = "unused"    // the next start removes it: empty, or given up already
	SegmentHead      SegmentState = "head"      // no segment yet: in the head log, and in memory
)

// SegmentSurvey is one segment file.
type SegmentSurvey struct {
	File   string // relative to the directory; "head" for what is in the head log
	Epoch  edgeagent.Epoch
	Stream edgeagent.Stream
	edgeagent.Range
	Records        uint64
	Bytes          int64 // on the disk
	Oldest, Newest int64 // wall time, Unix ns; 0 while it is empty
	State          SegmentState
}

// RunSurvey is the part of a stream that one run appended.
type RunSurvey struct {
	Epoch  edgeagent.Epoch
	Stream edgeagent.Stream
	Run    edgeagent.Run
	edgeagent.Range
}

// SeriesSurvey is one id.
type SeriesSurvey struct {
	Epoch edgeagent.Epoch
	ID    uint32
	Key   edgeagent.SeriesKey
}

// DestinationSurvey is one destination.
type DestinationSurvey struct {
	Name string
	// Active: holds back what it has not confirmed. The others were released, and
	// would go on where they were.
	Active      bool
	Unconfirmed map[edgeagent.Stream]uint64 // records stored that it has not confirmed
}

// Survey returns a snapshot. It costs a walk over memory, no reading of files.
func (b *Buffer) Survey() Survey {
	used := b.usedBytes()
	files, bytes := b.quarantined()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.survey(nil)
	s.Running, s.Run = true, b.run
	s.Used, s.MaxBytes, s.Device = used, int64(b.o.MaxBytes), b.o.Device
	s.Quarantined, s.QuarantineBytes = files, bytes
	return s
}

func (b *Buffer) quarantined() (files int, bytes int64) {
	dir := filepath.Join(b.dir, quarantineDir)
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0
	}
	return len(list), dirBytes(dir)
}

// survey collects everything that is by epoch, stream and segment; b.mu is held.
// states overrules the state of a segment.
func (b *Buffer) survey(states map[*seg]SegmentState) Survey {
	s := Survey{Dir: b.dir}
	for _, ep := range b.epochs {
		e := EpochSurvey{Epoch: ep.id, Reason: ep.reason, Streams: map[edgeagent.Stream]StreamSurvey{}}
		for _, st := range edgeagent.Streams() {
			ch := ep.streams[st]
			e.Streams[st] = ch.survey()
			s.Runs = append(s.Runs, ch.runSurvey()...)
			s.Gaps = append(s.Gaps, ch.gaps...)
			for _, sg := range ch.segs {
				s.Segments = append(s.Segments, b.segmentSurvey(ch, sg, states[sg]))
			}
			s.Segments = append(s.Segments, ch.headSurvey()...)
		}
		s.Epochs = append(s.Epochs, e)
		for i, x := range ep.series.byID {
			if !x.IsZero() {
				s.Series = append(s.Series, SeriesSurvey{ep.id, uint32(i) + 1, x.Key()})
			}
		}
	}
	for _, d := range b.holding() {
		s.Gaps = append(s.Gaps, b.ownGaps(d)...)
	}
	for _, name := range slices.Sorted(maps.Keys(b.dests)) {
		s.Destinations = append(s.Destinations, b.destinationSurvey(b.dests[name]))
	}
	return s
}

func (c *chain) survey() StreamSurvey {
	s := StreamSurvey{Next: c.next, Low: c.low, Segments: len(c.segs)}
	for _, sg := range c.segs {
		s.Bytes += sg.bytes
		if sg.records == 0 {
			continue
		}
		if s.Records == 0 {
			s.Oldest, s.Newest = sg.minTime, sg.maxTime
		}
		s.Records += sg.records
		s.Oldest, s.Newest = min(s.Oldest, sg.minTime), max(s.Newest, sg.maxTime)
	}
	if n := c.tail.len(); n > 0 {
		oldest, newest := c.tail.times()
		if s.Records == 0 {
			s.Oldest, s.Newest = oldest, newest
		}
		s.Records += uint64(n)
		s.Oldest, s.Newest = min(s.Oldest, oldest), max(s.Newest, newest)
	}
	return s
}

// headSurvey shows what is in the head log as if it were segments, one for each
// stretch of numbers.
func (c *chain) headSurvey() []SegmentSurvey {
	var out []SegmentSurvey
	for i, sp := range c.tail.spans {
		rng := c.tail.rng(i)
		oldest, newest := c.tail.time(sp.at), c.tail.time(sp.at)
		for at := sp.at; at < c.tail.end(i); at++ {
			oldest, newest = min(oldest, c.tail.time(at)), max(newest, c.tail.time(at))
		}
		if n := len(out); n > 0 && out[n-1].To+1 == rng.From {
			last := &out[n-1]
			last.To, last.Records = rng.To, last.Records+rng.Len()
			last.Oldest, last.Newest = min(last.Oldest, oldest), max(last.Newest, newest)
			continue
		}
		out = append(out, SegmentSurvey{
			File: "head", Epoch: c.epoch, Stream: c.stream, Range: rng, Records: rng.Len(),
			Oldest: oldest, Newest: newest, State: SegmentHead,
		})
	}
	return out
}

// runSurvey lists the runs that appended something.
func (c *chain) runSurvey() []RunSurvey {
	var out []RunSurvey
	for i, r := range c.runs {
		to := c.next - 1
		if i+1 < len(c.runs) {
			to = c.runs[i+1].First - 1
		}
		if r.First <= to {
			out = append(out, RunSurvey{c.epoch, c.stream, r.Run, edgeagent.Range{From: r.First, To: to}})
		}
	}
	return out
}

func (b *Buffer) segmentSurvey(ch *chain, sg *seg, state SegmentState) SegmentSurvey {
	s := SegmentSurvey{
		File: b.relative(sg.path), Epoch: sg.epoch, Stream: sg.stream, Range: sg.rng(),
		Records: sg.records, Bytes: sg.bytes, Oldest: sg.minTime, Newest: sg.maxTime, State: state,
	}
	switch {
	case state != "":
	case sg == ch.open:
		s.State = SegmentOpen
	case len(b.owed(ch, sg)) == 0:
		s.State = SegmentConfirmed
	default:
		s.State = SegmentSealed
	}
	return s
}

// relative returns path as people know it, below the buffer's directory.
func (b *Buffer) relative(path string) string {
	if rel, err := filepath.Rel(b.dir, path); err == nil {
		return filepath.ToSlash(rel)
	}
	return path
}

func (b *Buffer) destinationSurvey(d *destination) DestinationSurvey {
	s := DestinationSurvey{Name: d.name, Active: d.holds(), Unconfirmed: map[edgeagent.Stream]uint64{}}
	for _, st := range edgeagent.Streams() {
		if n := b.unconfirmed(d, st); n > 0 {
			s.Unconfirmed[st] = n
		}
	}
	return s
}

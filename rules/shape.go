package rules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// Shape says which readings of a series go on to the buffer. Rules have seen every
// reading before. Exactly one of Deadband, Downsample and OnChange is set; of
// several shapes for a series the first counts.
type Shape struct {
	// Inputs names series as in a rule; the names do not matter.
	Inputs     map[string]string `yaml:"inputs"`
	Deadband   *Deadband         `yaml:"deadband"`
	Downsample *Downsample       `yaml:"downsample"`
	// OnChange passes a reading on when its value or quality differs from the one
	// before.
	OnChange bool `yaml:"on_change"`
}

// Deadband passes a reading on when it is far enough from an earlier one. A change
// of quality is always passed on.
type Deadband struct {
	Abs     float64 `yaml:"abs"`     // in the series' unit
	Percent float64 `yaml:"percent"` // of the earlier value; with Abs the larger one counts
	// MaxSilence: a reading is passed on when the last one that was is this old.
	MaxSilence time.Duration `yaml:"max_silence"`
	Against    string        `yaml:"against"` // the last one "sent" (default), or the last one "seen"
}

// Downsample passes on summaries instead of readings, as series of their own:
// "pump/vibration_avg".
type Downsample struct {
	Window Pieces   `yaml:"window"` // "tumbling 10s" or "session gap 30s"
	Emit   []string `yaml:"emit"`   // avg, min, max, sum, count, first, last, stddev, range
}

// Pieces is how a series is cut for downsampling: into pieces of one length, or
// where it was silent.
type Pieces struct {
	Length  time.Duration
	Session bool // Length is that of a silence
}

// UnmarshalText reads "tumbling 10s" or "session gap 30s".
func (p *Pieces) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if n := len(words); n > 0 {
		d, err := time.ParseDuration(words[n-1])
		kind := strings.Join(words[:n-1], " ")
		if err == nil && d >= 10*time.Millisecond && d <= 24*time.Hour && (kind == "tumbling" || kind == "session gap") {
			*p = Pieces{d, kind == "session gap"}
			return nil
		}
	}
	return edgeagent.WithHint(fmt.Errorf("bad window %q", text), `write "tumbling 10s" or "session gap 30s", 10ms to 24h`)
}

// shape is a compiled [Shape].
type shape struct {
	patterns []pattern
	deadband *Deadband
	pieces   *Pieces
	emit     []string
}

// summaries are what Downsample.Emit may name.
var summaries = []string{"avg", "min", "max", "sum", "count", "first", "last", "stddev", "range"}

func compileShape(src Shape) (out shape, errs []error) {
	errorf := func(path, format string, args ...any) {
		errs = append(errs, edgeagent.Field(path, format, args...))
	}
	if len(src.Inputs) == 0 {
		errorf("inputs", "no series is named, want name: sensor/metric")
	}
	for name, series := range src.Inputs {
		p, err := parsePattern(series)
		if err != nil {
			errorf("inputs."+name, "%w", err)
		}
		out.patterns = append(out.patterns, p)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	set := 0
	if src.OnChange {
		set++
		out.deadband = &Deadband{Against: "seen"}
	}
	if d := src.Deadband; d != nil {
		set++
		out.deadband = d
		switch {
		case !(d.Abs >= 0) || !(d.Percent >= 0):
			errorf("deadband", "a band below 0")
		case d.Abs == 0 && d.Percent == 0:
			errorf("deadband", `how wide is missing: write "abs: 0.2" or "percent: 5"`)
		case d.Against != "" && d.Against != "sent" && d.Against != "seen":
			errorf("deadband.against", "unknown %q, want sent or seen", d.Against)
		case d.MaxSilence < 0 || d.MaxSilence > MaxDuration:
			errorf("deadband.max_silence", "%v is not within 0s and %v", d.MaxSilence, MaxDuration)
		}
	}
	if d := src.Downsample; d != nil {
		set++
		out.pieces, out.emit = &d.Window, d.Emit
		if d.Window.Length == 0 {
			errorf("downsample.window", `missing: write "tumbling 10s" or "session gap 30s"`)
		}
		if len(d.Emit) == 0 {
			errorf("downsample.emit", "nothing is emitted: name some of %s", strings.Join(summaries, ", "))
		}
		for i, name := range d.Emit {
			if !slices.Contains(summaries, name) || slices.Contains(d.Emit[:i], name) {
				errorf(fmt.Sprintf("downsample.emit[%d]", i), "unknown or repeated %q, want some of %s", name, strings.Join(summaries, ", "))
			}
		}
	}
	if set != 1 {
		errorf("", "want exactly one of deadband, downsample and on_change")
	}
	return out, errs
}

// maxShaped bounds the series that a shaper remembers; those on top of it pass
// unshaped and are counted.
const maxShaped = 10_000

// Shaper thins readings out on their way to the buffer. It is a pure state
// machine: time comes in with the readings and with [Shaper.Tick]. It is not safe
// for concurrent use. Its state is not kept over a restart: the first reading of
// each series is passed on again.
type Shaper struct {
	shapes []shape
	series map[edgeagent.Series]*shaped
	open   []*shaped // being downsampled, in order of their first reading
	stats  ShapeStats
}

// ShapeStats counts what a shaper did.
type ShapeStats struct {
	In, Out  uint64 // readings
	Unshaped uint64 // passed on for want of room
}

// shaped is what is remembered of a series; nil shape: it passes.
type shaped struct {
	shape *shape
	emit  []edgeagent.Series

	any     bool
	value   float64 // to compare with
	quality edgeagent.Quality
	sentAt  int64 // run time

	sum      aggregate
	piece    int64 // number of the tumbling piece that is open
	last     edgeagent.Reading
	worst    edgeagent.Quality
	openedAt int64
	isOpen   bool
}

// NewShaper compiles the shapes of all files. The errors are those of [Compile].
func NewShaper(files []File) (*Shaper, error) {
	s := &Shaper{series: map[edgeagent.Series]*shaped{}}
	var all []error
	for i, f := range files {
		for j, src := range f.Shape {
			sh, errs := compileShape(src)
			path := fmt.Sprintf("shape[%d]", j)
			if len(files) > 1 {
				path = fmt.Sprintf("files[%d].%s", i, path)
			}
			all = append(all, inFields(path, errs)...)
			s.shapes = append(s.shapes, sh)
		}
	}
	return s, errors.Join(all...)
}

// Stats returns the counters.
func (s *Shaper) Stats() ShapeStats { return s.stats }

// Shape appends to dst what is passed on of rs, summaries included. dst and rs may
// not share memory.
func (s *Shaper) Shape(dst, rs []edgeagent.Reading) []edgeagent.Reading {
	before := len(dst)
	for i := range rs {
		r := &rs[i]
		x := s.of(r.Series)
		switch {
		case x == nil || x.shape == nil:
			dst = append(dst, *r)
		case x.shape.deadband != nil:
			if x.passes(r) {
				dst = append(dst, *r)
			}
		default:
			dst = s.gather(dst, x, r)
		}
	}
	s.stats.In += uint64(len(rs))
	s.stats.Out += uint64(len(dst) - before)
	return dst
}

// of returns what is remembered of a series, nil if there is no room.
func (s *Shaper) of(series edgeagent.Series) *shaped {
	if x, ok := s.series[series]; ok {
		return x
	}
	if len(s.series) >= maxShaped {
		s.stats.Unshaped++
		return nil
	}
	x := &shaped{}
	name := series.String()
	for i := range s.shapes {
		if x.shape == nil && slices.ContainsFunc(s.shapes[i].patterns, func(p pattern) bool {
			_, ok := p.match(name)
			return ok
		}) {
			x.shape = &s.shapes[i]
		}
	}
	if x.shape != nil {
		x.emit = summarySeries(series.Key(), x.shape.emit)
	}
	s.series[series] = x
	return x
}

// summarySeries names what is emitted.
func summarySeries(key edgeagent.SeriesKey, emit []string) []edgeagent.Series {
	out := make([]edgeagent.Series, len(emit))
	for i, name := range emit {
		k := key
		k.Metric += "_" + name
		if name == "count" {
			k.Unit = ""
		}
		k.Kind, k.Labels = edgeagent.Gauge, edgeagent.Pairs{}
		out[i] = edgeagent.NewSeries(k)
	}
	return out
}

// passes decides about one reading.
func (x *shaped) passes(r *edgeagent.Reading) bool {
	d := x.shape.deadband
	width := d.Abs
	if d.Percent > 0 {
		width = max(width, math.Abs(x.value)*d.Percent/100)
	}
	distance := math.Abs(r.Value - x.value)
	// A band of 0 is on_change; a change of the band's width counts, whatever
	// rounding made of it.
	far := distance > 0 && distance >= width*(1-1e-9)
	pass := !x.any || far || r.Quality != x.quality || isFinite(r.Value) != isFinite(x.value) ||
		d.MaxSilence > 0 && r.At.Run-x.sentAt >= int64(d.MaxSilence)
	x.any, x.quality = true, r.Quality
	if pass || d.Against == "seen" {
		x.value = r.Value
	}
	if pass {
		x.sentAt = r.At.Run
	}
	return pass
}

// isFinite: from what is no number, or infinite, there is no distance.
func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// gather adds a reading to the open piece, closing it before if it is over.
func (s *Shaper) gather(dst []edgeagent.Reading, x *shaped, r *edgeagent.Reading) []edgeagent.Reading {
	if x.isOpen && x.over(r.At.Run) {
		dst = s.close(dst, x)
	}
	if !x.isOpen {
		x.isOpen, x.piece, x.openedAt = true, r.At.Run/int64(x.shape.pieces.Length), r.At.Run
		x.sum, x.worst = aggregate{}, edgeagent.Good
		s.open = append(s.open, x)
	}
	x.last, x.worst = *r, max(x.worst, r.Quality)
	if expression.Known(r.Value) && !math.IsInf(r.Value, 0) && r.Quality < edgeagent.Bad {
		x.sum = x.sum.merge(one(r.At.Run, r.Value))
	}
	return dst
}

// over reports whether the open piece ends before run time now.
func (x *shaped) over(now int64) bool { return now >= x.ends() }

func (x *shaped) ends() int64 {
	p := x.shape.pieces
	if p.Session {
		return x.last.At.Run + int64(p.Length)
	}
	return (x.piece + 1) * int64(p.Length)
}

// close emits the summaries of a piece, dated at its last reading.
func (s *Shaper) close(dst []edgeagent.Reading, x *shaped) []edgeagent.Reading {
	for i, name := range x.shape.emit {
		r := x.last
		r.Series, r.Quality = x.emit[i], x.worst
		if r.Value = x.sum.named(name); !expression.Known(r.Value) {
			r.Quality = edgeagent.Bad
		}
		dst = append(dst, r)
	}
	x.isOpen = false
	s.open = slices.DeleteFunc(s.open, func(o *shaped) bool { return o == x })
	return dst
}

// named returns a summary by its name, NaN if there is none.
func (a aggregate) named(name string) float64 {
	if name == "count" {
		return float64(a.n)
	}
	return a.value(&call{fn: functionOf(name)}, nil)
}

// Tick appends the summaries of the pieces that are over at now.
func (s *Shaper) Tick(dst []edgeagent.Reading, now edgeagent.Instant) []edgeagent.Reading {
	return s.closeAll(dst, func(x *shaped) bool { return x.over(now.Run) })
}

// Flush appends the summaries of all pieces that are open, for the end of the run.
func (s *Shaper) Flush(dst []edgeagent.Reading) []edgeagent.Reading {
	return s.closeAll(dst, func(*shaped) bool { return true })
}

func (s *Shaper) closeAll(dst []edgeagent.Reading, which func(*shaped) bool) []edgeagent.Reading {
	before := len(dst)
	for _, x := range slices.Clone(s.open) {
		if which(x) {
			dst = s.close(dst, x)
		}
	}
	s.stats.Out += uint64(len(dst) - before)
	return dst
}

// NextTimer returns the run time at which Tick has something to do.
func (s *Shaper) NextTimer() (run time.Duration, ok bool) {
	at := int64(never)
	for _, x := range s.open {
		at = min(at, x.ends())
	}
	return time.Duration(at), at != never
}

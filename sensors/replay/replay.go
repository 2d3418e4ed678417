package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

const (
	maxBatch = 4096 // readings of one sample

	rateTick   = 50 * time.Millisecond // at rates above one reading a tick
	factorTick = 10 * time.Millisecond // at the recording's pace
	maxLag     = time.Second           // how far back a stamp "now" may lie
)

// source plays one file.
type source struct {
	env      sensors.Env
	file     *file
	pace     pace
	loop     bool
	recorded bool
	names    names

	started bool
	base    time.Duration // run time at the first sample
	given   uint64        // readings since then

	// The pass through the file that is under way.
	passed    uint64        // its readings
	passStart time.Duration // due time of its start, from base
	firstAt   int64         // recorded time of its first reading
	lastDue   time.Duration // due time of its last reading, from base

	head    record // the reading to give next, if ready
	headDue time.Duration
	series  edgeagent.Series
	ready   bool
	shut    bool
}

// Sample gives what is due, at most 4,096 lines. Lines that cannot be read are
// stepped over and told of in one error, beside the readings: a recording may hold
// a million of them before the next good one.
func (s *source) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.shut {
		return dst, errors.New("replay is closed")
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	now := s.env.Now()
	if !s.started {
		s.started, s.base = true, time.Duration(now.Run)
	}
	var bad badLines
	for range maxBatch {
		if err := s.advance(); err != nil {
			if bad.take(err) {
				continue
			}
			if bad.n > 0 {
				return dst, bad.err() // the end comes again with the next call
			}
			return dst, err
		}
		if s.headDue > time.Duration(now.Run)-s.base {
			break
		}
		dst = append(dst, s.take(now))
	}
	return dst, bad.err()
}

// badLines are the lines of one sample that cannot be used.
type badLines struct {
	n     int
	first error
}

// take reports whether err is of one line only, and notes it.
func (b *badLines) take(err error) bool {
	if _, ok := errors.AsType[*lineError](err); !ok {
		return false
	}
	if b.n == 0 {
		b.first = err
	}
	b.n++
	return true
}

func (b *badLines) err() error {
	if b.n > 1 {
		return fmt.Errorf("%w (and %d more lines)", b.first, b.n-1)
	}
	return b.first
}

// Next returns how long it is until something is due.
func (s *source) Next() time.Duration {
	if !s.ready || s.pace.immediate() {
		return 0
	}
	due := s.headDue
	switch {
	case !s.pace.perSecond:
		due = roundUp(due, factorTick)
	case s.pace.due(0, 0) < rateTick:
		due = roundUp(due, rateTick)
	}
	return max(s.base+due-s.env.Clock.Run(), 0)
}

func roundUp(d, to time.Duration) time.Duration { return (d + to - 1) / to * to }

// Verbatim says that the values are somebody else's: NaN and ±Inf pass.
func (s *source) Verbatim() bool { return true }

// advance makes the next reading ready, if none is.
func (s *source) advance() error {
	for !s.ready {
		r, err := s.file.record()
		if err == nil {
			if s.series, err = s.names.of(r); err != nil {
				err = s.file.at(err)
			}
		}
		if err != nil {
			if err := s.resume(err); err != nil {
				return err
			}
			continue
		}
		s.setHead(r)
	}
	return nil
}

// resume decides what an error of the file means: the next pass, a line to step
// over, or the end.
func (s *source) resume(err error) error {
	if errors.Is(err, io.EOF) {
		return s.again()
	}
	if _, ok := errors.AsType[*lineError](err); ok {
		return err
	}
	return errors.Join(err, sensors.ErrEnd)
}

func (s *source) setHead(r record) {
	if s.passed == 0 {
		s.firstAt = r.at
	}
	n, start := s.passed, s.passStart
	if s.pace.perSecond || s.pace.immediate() { // these know no passes
		n, start = s.given, 0
	}
	s.head, s.ready = r, true
	s.headDue = start + s.pace.due(n, time.Duration(r.at-s.firstAt))
}

// take hands out the head.
func (s *source) take(now edgeagent.Instant) edgeagent.Reading {
	at := now
	if !s.pace.immediate() {
		lag := min(max(time.Duration(now.Run)-s.base-s.headDue, 0), maxLag)
		at.Run -= int64(lag)
		at.Wall -= int64(lag)
	}
	if s.recorded {
		at.Wall = s.head.at
	}
	s.ready = false
	s.passed++
	s.given++
	s.lastDue = max(s.lastDue, s.headDue)
	return edgeagent.Reading{Series: s.series, At: at, Value: s.head.value, Recorded: s.recorded}
}

// again starts the next pass, or says that there is none. The pause between two
// passes is the mean distance of two readings.
func (s *source) again() error {
	if !s.loop {
		return sensors.ErrEnd
	}
	if s.passed == 0 {
		return errors.Join(fmt.Errorf("%s holds no reading", s.file.path), sensors.ErrEnd)
	}
	if err := s.file.rewind(); err != nil {
		return errors.Join(err, sensors.ErrEnd)
	}
	pause := time.Second
	if took := s.lastDue - s.passStart; took > 0 {
		pause = took / time.Duration(max(s.passed-1, 1))
	}
	s.passStart, s.passed = s.lastDue+pause, 0
	return nil
}

// Close closes the file.
func (s *source) Close() error {
	if s.shut {
		return nil
	}
	s.shut = true
	return s.file.close()
}

var (
	_ sensors.Paced    = (*source)(nil)
	_ sensors.Verbatim = (*source)(nil)
)

package buffer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// maxCorrections bounds the corrections that are kept; the oldest goes.
const maxCorrections = 256

// Correction is what to add to the times that a run took before its clock was
// right. One fits the whole run, because while the clock is not synced times are
// the wall time at the run's start plus the run time since.
type Correction struct {
	Run edgeagent.Run
	Add time.Duration // what to add
	Err time.Duration // bound of its error, not negative
}

// corrections are all that are known, oldest first. Never changed once published.
type corrections struct {
	list  []Correction
	first uint64 // number of the first in state.db
}

func (c *corrections) of(run edgeagent.Run) (Correction, bool) {
	if c == nil {
		return Correction{}, false
	}
	i := slices.IndexFunc(c.list, func(x Correction) bool { return x.Run == run })
	if i < 0 {
		return Correction{}, false
	}
	return c.list[i], true
}

// correctionRecord is a Correction as it is stored.
type correctionRecord struct {
	Run edgeagent.Run `json:"run"`
	Add int64         `json:"add_ns"`
	Err int64         `json:"err_ns"`
}

// ErrCorrected is the error of a run that has another correction already.
var ErrCorrected = errors.New("the run was corrected already")

// Correct makes durable what is to be added to the unsynced times of a run, rounded
// to the millisecond, and then applies it: batches that are read from now on show
// the right times and are unsynced no more, while their Encoded stays as it is;
// marks carry the correction to the receivers of blocks. Batches that were read
// before keep what they show.
//
// A run is corrected once: the same correction again is no error, another one is
// [ErrCorrected]. Steps of the clock after that concern later records only, which
// are stamped with the right time and not corrected. A run that the buffer does not
// know is refused. The 256 newest corrections are kept.
func (b *Buffer) Correct(ctx context.Context, c Correction) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("correct run %s: %w", c.Run, err)
	}
	const unit = time.Millisecond
	if rounded := c.Add.Round(unit); rounded != c.Add {
		c.Err += (rounded - c.Add).Abs()
		c.Add = rounded
	}
	c.Err = max(c.Err, 0)
	b.disk.Lock()
	defer b.disk.Unlock()
	old, known := b.corrections.Load(), false
	b.mu.Lock()
	closed := b.closed
	known = b.knowsRun(c.Run)
	b.mu.Unlock()
	switch had, again := old.of(c.Run); {
	case closed:
		return ErrClosed
	case again && had.Add == c.Add:
		return nil
	case again:
		return fmt.Errorf("correct run %s by %s: %w, by %s", c.Run, c.Add, ErrCorrected, had.Add)
	case !known:
		return fmt.Errorf("correct run %s: the buffer does not know it", c.Run)
	}
	next := corrections{}
	if old != nil {
		next = corrections{slices.Clone(old.list), old.first}
	}
	next.list = append(next.list, c)
	last := next.first + uint64(len(next.list)) - 1
	changes := []segment.Change{set(bucketClock, orderKey(last), correctionRecord{c.Run, int64(c.Add), int64(c.Err)})}
	if len(next.list) > maxCorrections {
		changes = append(changes, unset(bucketClock, orderKey(next.first)))
		next.list, next.first = next.list[1:], next.first+1
	}
	if err := b.save(changes); err != nil {
		return fmt.Errorf("correct run %s: %w", c.Run, writeError(err))
	}
	b.corrections.Store(&next)
	return nil
}

// UnsyncedWall returns the wall time that a record of this run gets which is taken at a
// run time of the clock while that is not synced: what it lacks is the correction.
func (b *Buffer) UnsyncedWall(run time.Duration) time.Time {
	return time.Unix(0, b.start.Wall+int64(run)-b.start.Run)
}

// knowsRun reports whether the run is this one or gave a number; b.mu is held.
func (b *Buffer) knowsRun(run edgeagent.Run) bool {
	return run == b.run || slices.ContainsFunc(b.epochs, func(ep *epoch) bool { return ep.hasRun(run) })
}

// hasRun reports whether the run began to give numbers of the epoch.
func (ep *epoch) hasRun(run edgeagent.Run) bool {
	for _, s := range edgeagent.Streams() {
		if slices.ContainsFunc(ep.streams[s].runs, func(r runStart) bool { return r.Run == run }) {
			return true
		}
	}
	return false
}

// Corrections lists the corrections that apply, oldest first.
func (b *Buffer) Corrections() []Correction {
	if c := b.corrections.Load(); c != nil {
		return slices.Clone(c.list)
	}
	return nil
}

// Corrections lists the corrections of runs, oldest first: [ReadOnly.Blocks] gives
// the raw times.
func (r *ReadOnly) Corrections() []Correction { return r.b.Corrections() }

// marksClock returns the corrections that concern an epoch; b.mu is held.
func (b *Buffer) marksClock(ep *epoch) []block.Correction {
	var out []block.Correction
	for _, c := range b.Corrections() {
		if ep.hasRun(c.Run) {
			out = append(out, block.Correction{Run: c.Run, Add: int64(c.Add), Err: int64(c.Err)})
		}
	}
	return out
}

// correctedHeader returns what a batch shows of a block, and what is to be added to
// the times in it.
func (b *Buffer) correctedHeader(h block.Header) (edgeagent.BatchHeader, int64) {
	head := h.Batch()
	if !h.Unsynced {
		return head, 0
	}
	c, ok := b.corrections.Load().of(h.Run)
	if !ok {
		return head, 0
	}
	head.Unsynced = false
	head.MinTime, head.MaxTime = addTime(head.MinTime, int64(c.Add)), addTime(head.MaxTime, int64(c.Add))
	return head, int64(c.Add)
}

// addTime adds without running over.
func addTime(t, add int64) int64 {
	switch {
	case add > 0 && t > math.MaxInt64-add:
		return math.MaxInt64
	case add < 0 && t < math.MinInt64-add:
		return math.MinInt64
	}
	return t + add
}

// readCorrections loads them from state.db, which each walks over.
func (b *Buffer) readCorrections(each func(bucket string, prefix []byte, f func(key, value []byte) error) error) error {
	var c corrections
	err := each(bucketClock, nil, func(key, value []byte) error {
		var r correctionRecord
		if err := parse(bucketClock, key, value, &r); err != nil {
			return err
		}
		if len(key) != 8 {
			return fmt.Errorf("state %s: %w: %w", bucketClock, segment.ErrDamaged, errBadKey)
		}
		if len(c.list) == 0 {
			c.first = binary.BigEndian.Uint64(key)
		}
		c.list = append(c.list, Correction{r.Run, time.Duration(r.Add), time.Duration(r.Err)})
		return nil
	})
	if err == nil && len(c.list) > 0 {
		b.corrections.Store(&c)
	}
	return err
}

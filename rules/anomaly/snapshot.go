package anomaly

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// SnapshotVersion is the first byte of a snapshot. A snapshot of another version is
// refused, and what it knew is learned anew.
const SnapshotVersion = 1

// SnapshotSize is the length of every snapshot, in bytes.
const SnapshotSize = 2577

var errSnapshot = errors.New("the snapshot of a detector is damaged")

// AppendSnapshot appends what the monitor has learned: [SnapshotSize] bytes. The
// facts are not part of it. There is no checksum: the file that holds it has one.
func (m *Monitor) AppendSnapshot(dst []byte) []byte {
	c := codec{buf: append(dst, SnapshotVersion), write: true}
	c.state(&m.state)
	return c.buf
}

// Restore takes a snapshot of [Monitor.AppendSnapshot]: the monitor goes on to the bit
// as the one that wrote it would have, as long as run time goes on; after a restart
// of the process, call [Monitor.Resume]. On error the monitor is as before.
func (m *Monitor) Restore(snapshot []byte) error {
	if len(snapshot) == 0 || snapshot[0] != SnapshotVersion {
		return fmt.Errorf("restore a detector: version is not %d", SnapshotVersion)
	}
	if len(snapshot) != SnapshotSize {
		return fmt.Errorf("restore a detector: %d bytes, want %d: %w", len(snapshot), SnapshotSize, errSnapshot)
	}
	var s state
	c := codec{buf: snapshot[1:]}
	c.state(&s)
	if c.bad {
		return fmt.Errorf("restore a detector: %w", errSnapshot)
	}
	m.state = s
	return nil
}

// codec writes the fields of a state, or reads them in the same order. It refuses
// numbers that no detector holds: NaN and infinities, which would never leave it
// again, negative scales, and evidence beyond any that can be.
type codec struct {
	buf   []byte
	write bool
	bad   bool
}

func (c *codec) u64(v *uint64) {
	if c.write {
		c.buf = binary.LittleEndian.AppendUint64(c.buf, *v)
		return
	}
	*v = binary.LittleEndian.Uint64(c.buf)
	c.buf = c.buf[8:]
}

func (c *codec) i64(v *int64) {
	u := uint64(*v)
	c.u64(&u)
	*v = int64(u)
}

func (c *codec) u32(v *uint32) {
	if c.write {
		c.buf = binary.LittleEndian.AppendUint32(c.buf, *v)
		return
	}
	*v = binary.LittleEndian.Uint32(c.buf)
	c.buf = c.buf[4:]
}

func (c *codec) u8(v *uint8) {
	if c.write {
		c.buf = append(c.buf, *v)
		return
	}
	*v = c.buf[0]
	c.buf = c.buf[1:]
}

func (c *codec) flag(v *bool) {
	var b uint8
	if *v {
		b = 1
	}
	c.u8(&b)
	c.bad = c.bad || b > 1
	*v = b == 1
}

// number is of either sign, at most most away from 0.
func (c *codec) number(most float64, v *float64) {
	u := math.Float64bits(*v)
	c.u64(&u)
	*v = math.Float64frombits(u)
	c.bad = c.bad || !(math.Abs(*v) <= most)
}

// value is a reading or a mean of readings.
func (c *codec) value(vs ...*float64) {
	for _, v := range vs {
		c.number(limit, v)
	}
}

// size is a number that is not negative, such as a scale: at most the difference of
// the differences of two readings each.
func (c *codec) size(vs ...*float64) { c.within(4*limit, vs...) }

// within is a size up to most.
func (c *codec) within(most float64, vs ...*float64) {
	for _, v := range vs {
		c.number(most, v)
		c.bad = c.bad || *v < 0
	}
}

func (c *codec) span(s *span) {
	c.value(&s.lo, &s.hi)
	c.bad = c.bad || s.hi < s.lo
}

func (c *codec) profile(p *profile) {
	c.size(&p.usual)
	c.within(learning, &p.learned)
	c.u32(&p.n)
	c.i64(&p.visit)
	c.value(&p.mean)
	c.u32(&p.count)
}

func (c *codec) season(s *season) {
	c.profile(&s.day)
	c.profile(&s.week)
	for i := range s.dayMean {
		c.value(&s.dayMean[i])
		c.u8(&s.dayCount[i])
	}
	for i := range s.weekMean {
		c.value(&s.weekMean[i])
		c.u8(&s.weekCount[i])
	}
}

func (c *codec) detector(d *Detector) {
	c.u32(&d.seen)
	c.within(learningDay, &d.learned)
	c.within(day, &d.watched)
	c.i64(&d.lastRun)
	c.within(day, &d.interval)
	c.u32(&d.steps)
	c.value(&d.last, &d.level, &d.fast)
	c.size(&d.scale, &d.change, &d.fastChange, &d.resolution)
	c.span(&d.values)
	c.span(&d.means)
	c.season(&d.season)
	for i := range d.tails {
		t := &d.tails[i]
		c.within(mostLog, &t.quantile, &t.excess, &t.spread)
		c.u32(&t.n)
	}
	c.within(densityMost, &d.density)
	c.within(awayMost, &d.away.up, &d.away.down)
	c.within(4*mostLog/tailFloor, &d.onset.peak, &d.onset.told, &d.onset.long)
	c.size(&d.onset.habit)
	c.within(eventGap, &d.onset.since)
}

func (c *codec) state(s *state) {
	c.detector(&s.detector)
	c.flag(&s.seen)
	c.i64(&s.lastRun)
	c.flag(&s.usable)
	c.i64(&s.usedRun)
	c.value(&s.last)
	c.within(checkLearning, &s.learned)
	for i := range s.checks {
		c.flag(&s.checks[i].firing)
		c.size(&s.checks[i].since)
	}
	c.u32(&s.calm)
	c.u32(&s.stuck.run)
	c.size(&s.stuck.seconds)
	c.u32(&s.stuck.longest)
	c.u32(&s.stuck.changes)
	c.u32(&s.noise.n)
	c.value(&s.noise.last)
	c.number(2*limit, &s.noise.step)
	c.size(&s.noise.fast, &s.noise.slow)
	c.within(mostEvidence, &s.noise.loudest)
	c.u32(&s.drift.n)
	c.within(driftWeek, &s.drift.age)
	c.value(&s.drift.mean)
	c.span(&s.drift.home)
}

package rules

import (
	"unsafe"

	"github.com/edgeagent/edgeagent"
)

// captureRing keeps the last readings of an instance's inputs.
type captureRing struct {
	before, after int64
	ring          []kept
	head, n       int
	until         int64 // rules time at which the capture is complete, or never
	from          int64 // rules time from which readings belong to it
	alarm         string
	thinned       bool
}

type kept struct {
	at      int64 // rules time
	reading edgeagent.Reading
}

const capturedSize = int64(unsafe.Sizeof(kept{}))

func newCaptureRing(c *Capture) *captureRing {
	return &captureRing{before: int64(c.Before), after: int64(c.After), ring: make([]kept, c.Readings), until: never}
}

// add keeps a reading; the oldest goes when there is no room.
func (c *captureRing) add(at int64, r *edgeagent.Reading) {
	if c.n == len(c.ring) {
		if c.until != never && c.ring[c.head].at >= c.from {
			c.thinned = true
		}
		c.head, c.n = (c.head+1)%len(c.ring), c.n-1
	}
	c.ring[(c.head+c.n)%len(c.ring)] = kept{at, *r}
	c.n++
}

// begin starts a capture around now. One that is under way is left alone: its
// readings are on their way already.
func (c *captureRing) begin(alarm string, now int64) {
	if c.until != never {
		return
	}
	c.alarm, c.from, c.until, c.thinned = alarm, now-c.before, now+c.after, false
	if c.n == len(c.ring) && c.ring[c.head].at > c.from {
		c.thinned = true
	}
}

// finish returns what was captured.
func (c *captureRing) finish() *Captured {
	out := &Captured{Thinned: c.thinned}
	for i := range c.n {
		k := c.ring[(c.head+i)%len(c.ring)]
		if k.at >= c.from && k.at <= c.until {
			out.Readings = append(out.Readings, k.reading)
		}
	}
	c.until = never
	return out
}

// encode writes the capture under way, without its readings: the buffer has them.
func (c *captureRing) encode(w *encoder) {
	if w.flag(c.until != never); c.until == never {
		return
	}
	w.text(c.alarm)
	w.i64(c.from + c.before) // never negative
	w.i64(c.until)
	w.flag(c.thinned)
}

func (c *captureRing) decode(r *decoder) {
	if !r.flag() {
		return
	}
	c.alarm, c.from, c.until, c.thinned = r.text(), r.time()-c.before, r.time(), r.flag()
}

package faultnet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Faults are what one direction of a link does to what passes. The zero value does
// nothing. Probabilities are from 0 to 1.
//
// On datagrams each fault does what its name says. A stream is cut into segments of
// at most 1,460 bytes and stays a stream, as TCP would make it: a lost segment
// arrives a retransmission later, and all behind it waits; Duplicate and Reorder
// do nothing.
type Faults struct {
	Latency time.Duration // of each packet, at least
	Jitter  time.Duration // more of it, evenly from 0 to this
	Rate    int64         // bytes a second, 0 for no limit
	Queue   int           // bytes that wait for Rate, 0 for 64 KiB; a stream's writer waits, a datagram is dropped

	Drop      float64 // probability that a packet is lost
	DropAt    []int   // these are lost, too: the first packet is 1
	Duplicate float64 // a datagram comes twice
	Reorder   float64 // a datagram comes ReorderDelay later than it would
	Corrupt   float64 // one bit of the packet is flipped, on a stream as well

	// Stall holds everything back for as long as it is set.
	Stall bool
	// Blackhole takes everything and delivers nothing, and nobody is told: a
	// stream seems open. What it took stays lost.
	Blackhole bool
}

// Validate says what is out of range.
func (f Faults) Validate() error {
	for name, p := range map[string]float64{"drop": f.Drop, "duplicate": f.Duplicate, "reorder": f.Reorder, "corrupt": f.Corrupt} {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("faults: %s is %v, want a probability from 0 to 1", name, p)
		}
	}
	if f.Latency < 0 || f.Jitter < 0 || f.Rate < 0 || f.Queue < 0 {
		return fmt.Errorf("faults: negative latency, jitter, rate or queue: %+v", f)
	}
	return nil
}

// ReorderDelay is how much later a datagram that is reordered comes: after those
// that were sent meanwhile.
const ReorderDelay = 20 * time.Millisecond

const (
	segmentBytes = 1460
	defaultQueue = 64 << 10
	minRTO       = 200 * time.Millisecond
)

func (f Faults) queue() int {
	if f.Queue == 0 {
		return defaultQueue
	}
	return f.Queue
}

// shaper decides what happens to each packet of one direction. It does no I/O and
// reads no clock: the same seed, packets and times give the same fate.
type shaper struct {
	rng    *rand.Rand
	faults Faults
	packet int       // how many have come
	free   time.Time // when the line has sent what it was given
}

func newShaper(seed, direction uint64) *shaper {
	return &shaper{rng: rand.New(rand.NewPCG(seed, direction))}
}

// chance draws always, so that a change of one fault does not move the others.
func (s *shaper) chance(p float64) bool { return s.rng.Float64() < p }

// fate is what becomes of one packet.
type fate struct {
	at        time.Time // when it arrives
	lost      bool
	duplicate bool
	flip      int // the bit that is flipped, -1 for none
}

// send draws the fate of a packet of n bytes that is sent now.
func (s *shaper) send(now time.Time, n int) fate {
	s.packet++
	f := &s.faults
	x := fate{flip: -1}
	x.lost = s.chance(f.Drop) || slices.Contains(f.DropAt, s.packet)
	x.duplicate = s.chance(f.Duplicate)
	reorder := s.chance(f.Reorder)
	corrupt, bit, jitter := s.chance(f.Corrupt), s.rng.Float64(), s.rng.Float64()
	if corrupt && n > 0 {
		x.flip = int(bit * float64(8*n))
	}
	sent := now
	if f.Rate > 0 {
		if s.free.Before(now) {
			s.free = now
		}
		s.free = s.free.Add(time.Duration(float64(n) / float64(f.Rate) * float64(time.Second)))
		sent = s.free
	}
	x.at = sent.Add(f.Latency + time.Duration(jitter*float64(f.Jitter)))
	if reorder {
		x.at = x.at.Add(ReorderDelay)
	}
	return x
}

// stream draws the fate of a segment of a stream whose previous one arrives at
// last: it is never lost and never overtaken. A segment that is lost k times comes
// after k time-outs, each twice as long as the one before.
func (s *shaper) stream(now, last time.Time, n int) fate {
	x := s.send(now, n)
	if x.at.Before(last) {
		x.at = last
	}
	for rto := max(minRTO, 2*s.faults.Latency+s.faults.Jitter); x.lost; rto *= 2 {
		x.at = x.at.Add(rto)
		x.lost = s.chance(s.faults.Drop) && rto < time.Minute
	}
	return x
}

// backlog returns how many bytes wait for the rate.
func (s *shaper) backlog(now time.Time) int {
	if s.faults.Rate == 0 || !s.free.After(now) {
		return 0
	}
	return int(s.free.Sub(now).Seconds() * float64(s.faults.Rate))
}

// apply flips the bit in place.
func (x fate) apply(data []byte) {
	if x.flip >= 0 {
		data[x.flip/8] ^= 1 << (x.flip % 8)
	}
}

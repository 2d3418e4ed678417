package buffer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// candidate is something that may give way.
type candidate struct {
	quarantine string // path of a file there; the rest is empty then
	sg         *seg
	ch         *chain
	stream     edgeagent.Stream
	epoch      int // 0 is the oldest
	first      edgeagent.Seq
	bytes      int64
	maxTime    int64
	confirmed  bool
	open       bool // still written to
	closed     bool // its epoch has ended: no more numbers are given in it
}

// needed reports whether somebody still waits for what the candidate holds.
func (c candidate) needed() bool { return c.quarantine == "" && !c.confirmed }

// shortage is why something has to go.
type shortage struct {
	budget int64 // bytes beyond the budget, none if not above 0
	disk   int64 // bytes that the file system has too few
}

// action is what the retention decides.
type action uint8

const (
	enough  action = iota // there is room
	refuse                // there is none, and nothing may give way
	discard               // the candidate goes
	thin                  // the candidate is replaced by rollups
)

// decide says what to do next about a shortage, and with which candidate. For want
// of budget the policy says what goes. On a disk that others fill only what nobody
// needs goes: giving up readings would feed them to the flood one by one until none
// are left.
func decide(p Policy, list []candidate, s shortage, quota int64) (action, int) {
	if s.budget <= 0 && s.disk <= 0 {
		return enough, -1
	}
	keep := s.budget <= 0 || p == DropNewest || p == Block
	i := pickVictim(list, quota, keep)
	switch {
	case i < 0:
		return refuse, -1
	case p == DownsampleOldest && list[i].needed() && list[i].stream == edgeagent.StreamTelemetry && !list[i].closed:
		return thin, i
	}
	return discard, i
}

// pickVictim returns the index of what gives way next, -1 if nothing may: copies
// of damaged files, confirmed segments by age, the oldest of a stream of events or
// alarms that takes more than quota, and then by class. keep: only what nobody
// needs.
func pickVictim(list []candidate, quota int64, keep bool) int {
	taken := takenBy(list)
	best, least := -1, 0
	for i, c := range list {
		if keep && c.needed() {
			continue
		}
		over := c.stream == edgeagent.StreamAlarm || c.stream == edgeagent.StreamEvent
		over = over && taken[c.stream] > quota
		r := c.rank(over)
		if best < 0 || r < least || r == least && c.older(list[best]) {
			best, least = i, r
		}
	}
	return best
}

// takenBy returns the bytes of each stream that nobody may drop without a gap.
func takenBy(list []candidate) (taken [5]int64) {
	for _, c := range list {
		if c.needed() {
			taken[c.stream] += c.bytes
		}
	}
	return taken
}

// rank orders what may give way, the first to go lowest. Readings go before rollups
// and those before events, but what is still written to stays a little longer: its
// records are the newest.
func (c candidate) rank(overQuota bool) int {
	switch {
	case c.quarantine != "":
		return 0
	case c.confirmed && !c.open:
		return 1
	case c.confirmed:
		return 2
	case overQuota && !c.open:
		return 3
	case c.stream == edgeagent.StreamTelemetry && !c.open:
		return 4
	case c.stream == edgeagent.StreamRollup && !c.open:
		return 5
	case c.stream == edgeagent.StreamTelemetry:
		return 6
	case c.stream == edgeagent.StreamRollup:
		return 7
	case c.stream == edgeagent.StreamEvent:
		return 8
	}
	return 9
}

func (c candidate) older(d candidate) bool {
	switch {
	case c.quarantine != d.quarantine:
		return c.quarantine < d.quarantine
	case c.epoch != d.epoch:
		return c.epoch < d.epoch
	case c.stream == d.stream:
		return c.first < d.first
	case c.maxTime != d.maxTime:
		return c.maxTime < d.maxTime
	}
	return c.rank(false) < d.rank(false)
}

// held returns the bytes that a record of stream s must leave free under a policy
// that gives nothing up: what the quotas of the classes above it have left, so that
// readings do not keep alarms out.
func held(p Policy, list []candidate, s edgeagent.Stream, quota int64) (n int64) {
	if p != DropNewest && p != Block {
		return 0
	}
	taken := takenBy(list)
	for _, above := range []edgeagent.Stream{edgeagent.StreamAlarm, edgeagent.StreamEvent} {
		if s > above {
			n += max(0, quota-taken[above])
		}
	}
	return n
}

// retryRoom is how often whoever waits for room looks whether others have made some
// on the disk.
const retryRoom = time.Second

// whenRoom does what needs room, again and again if the policy is to wait for it.
func (b *Buffer) whenRoom(ctx context.Context, do func() error) error {
	if b.o.Policy != Block {
		return do()
	}
	var full error
	for {
		b.mu.Lock()
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		freed := b.freed
		b.mu.Unlock()
		err := do()
		if full != nil && err != nil && ctx.Err() != nil {
			return fmt.Errorf("%w, and none was made: %w", full, ctx.Err())
		}
		if !errors.Is(err, ErrFull) {
			return err
		}
		full = err
		timer := time.NewTimer(retryRoom)
		select {
		case <-freed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// makeRoom is [Buffer.makeRoomFor] of what is in no stream.
func (b *Buffer) makeRoom(need int64) error { return b.makeRoomFor(0, need) }

// makeRoomFor evicts until need more bytes of a stream fit into the budget and leave the
// file system its floor, or fails with [ErrFull]. b.disk is held. It may evict any
// segment, the open one of a chain included.
func (b *Buffer) makeRoomFor(stream edgeagent.Stream, need int64) error {
	quota := int64(b.o.MaxBytes) / quotaPart
	if err := b.removeLeftover(); err != nil {
		b.log.Warn("file of an evicted segment is still there", "err", err)
	}
	for {
		list := b.candidates()
		disk, floor := b.overDisk(need)
		s := shortage{b.overBudget(need) + held(b.o.Policy, list, stream, quota), disk}
		act, i := decide(b.o.Policy, list, s, quota)
		var err error
		switch act {
		case enough:
			return nil
		case refuse:
			if s.budget > 0 {
				floor = fmt.Errorf("max_bytes is %s and nothing may give way", b.o.MaxBytes)
			}
			return edgeagent.WithHint(fmt.Errorf("%w: %w", ErrFull, floor),
				"raise buffer.max_bytes, or free space on the file system of buffer.dir")
		case thin:
			err = b.thin(list[i])
		case discard:
			err = b.evict(list[i])
		}
		if err != nil {
			return err
		}
	}
}

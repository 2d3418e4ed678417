package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
)

const (
	// maxSuspects bounds the ranges that are sent apart. One bad record among 4,096
	// makes thirteen.
	maxSuspects = 64
	// maxStrikes is how often one record is refused before it is given up, and
	// maxStruck how many such records are remembered.
	maxStrikes = 2
	maxStruck  = 64
)

// suspect is a range in which there is a record that the receiver refuses for what
// it is. It is sent apart, in halves, until that record stands alone.
type suspect struct {
	place
	edgeagent.Range
}

// record is one record of a stream.
type record struct {
	place
	seq edgeagent.Seq
}

// letter is a record that is given up.
type letter struct {
	record
	cause string
}

// poison is what the receiver, or the link, will never take.
type poison struct {
	suspects []suspect
	strikes  map[record]int
	letters  []letter // to be told to the log
	pause    time.Duration
	until    time.Duration
}

// split sends a range in halves from now on. It returns false if too many are.
func (x *poison) split(p place, r edgeagent.Range) bool {
	x.clear(p, r)
	if len(x.suspects)+2 > maxSuspects {
		return false
	}
	middle := r.From + edgeagent.Seq(r.Len()/2)
	x.suspects = append(x.suspects,
		suspect{p, edgeagent.Range{From: r.From, To: middle - 1}}, suspect{p, edgeagent.Range{From: middle, To: r.To}})
	return true
}

// clear takes r out of the suspects: it was accepted, or is split further.
func (x *poison) clear(p place, r edgeagent.Range) {
	kept := x.suspects[:0:0]
	for _, s := range x.suspects {
		if s.place != p {
			kept = append(kept, s)
			continue
		}
		for _, part := range (edgeagent.Ranges{r}).Missing(s.Range) {
			kept = append(kept, suspect{p, part})
		}
	}
	x.suspects = kept
}

// piece returns the beginning of a batch that may go in one message.
func (x *poison) piece(h edgeagent.BatchHeader) edgeagent.Range {
	r := h.Range()
	for _, s := range x.suspects {
		switch {
		case s.place != place{h.Epoch, h.Stream}:
		case s.Contains(r.From):
			r.To = min(r.To, s.To)
		case s.From > r.From:
			r.To = min(r.To, s.From-1)
		}
	}
	return r
}

// refusedForGood handles a message that the receiver refuses for what it is: it is
// sent in pieces, and a record that is refused twice alone is given up.
func (m *machine) refusedForGood(now time.Duration, f *flight, err error) {
	if f.size > m.largest && f.cap > smallestMessage && f.head.Count != 1 { // perhaps it is only too large
		m.sizeCap = max(least(min(f.size, f.cap)/2, m.sizeCap), smallestMessage)
		if f.head.Count == 0 {
			return
		}
	}
	p := place{f.head.Epoch, f.head.Stream}
	switch {
	case f.head.Count == 1:
		m.strike(now, record{p, f.head.First}, err)
	case f.head.Count == 0 || !m.poison.split(p, f.head.Range()):
		m.pauseLane(now, f.lane, longestPause, err)
	}
}

// strike counts that a record was refused, or does not fit. It is read again with the
// backlog of its stream, which pauses before, so that a receiver that refuses everything for a while does
// not get rid of everything.
func (m *machine) strike(now time.Duration, r record, err error) {
	x := &m.poison
	if x.strikes == nil || len(x.strikes) >= maxStruck && x.strikes[r] == 0 {
		x.strikes = map[record]int{}
	}
	x.strikes[r]++
	m.reopen[r.stream] = true
	if x.strikes[r] < maxStrikes || slices.ContainsFunc(x.letters, func(y letter) bool { return y.record == r }) {
		m.pauseLane(now, backlogLane(r.stream), 0, err)
		return
	}
	x.letters = append(x.letters, letter{r, fmt.Sprintf("refused %d times: %v", x.strikes[r], or(err, errPoison))})
}

var errPoison = errors.New("the receiver gave no reason")

// nextLetter returns the next record to be given up, if it is time.
func (m *machine) nextLetter(now time.Duration) (action, bool) {
	if len(m.poison.letters) == 0 || now < m.poison.until {
		return action{}, false
	}
	return action{kind: actBury, letter: m.poison.letters[0]}, true
}

// buried is called when the log has put a record aside.
func (m *machine) buried(y letter) {
	m.poison.letters = m.poison.letters[1:]
	m.poison.pause, m.poison.until = 0, 0
	m.poison.clear(y.place, edgeagent.Range{From: y.seq, To: y.seq})
	delete(m.poison.strikes, y.record)
	m.count.deadLetters++
}

// buryFailed is called when it could not: it is asked again later.
func (m *machine) buryFailed(now time.Duration) {
	x := &m.poison
	x.pause = min(max(2*x.pause, time.Second), time.Minute)
	x.until = now + x.pause
}

// tooLargeError is a record that does not fit the link.
type tooLargeError struct {
	head edgeagent.BatchHeader
	size int
	most int
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("%s %d makes a message of %d bytes, over the limit of %d", e.head.Stream, e.head.First, e.size, e.most)
}

// bury puts one record aside.
func (e *engine) bury(ctx context.Context, y letter) {
	err := e.log.DeadLetter(ctx, y.epoch, y.stream, edgeagent.Range{From: y.seq, To: y.seq}, y.cause)
	if err != nil {
		e.m.buryFailed(e.clock.Run())
		e.slog.Warn("a record that is refused cannot be put aside", "stream", y.stream.String(), "seq", uint64(y.seq), "error", err)
		return
	}
	e.m.buried(y)
}

package process

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Bounds of the work under way.
const (
	maxScorers = 1024
	window     = 8 // questions in flight
)

// state of a question.
type state uint8

const (
	idle    state = iota
	waiting       // stands in queue.waiting, once
	flying        // one of queue.flights
)

// question is what a scorer asks and what it was answered.
type question struct {
	state  state
	again  bool      // flying, and x is newer than what was sent
	fresh  bool      // x has been asked for, or will be
	x      []float64 // the latest features
	asked  time.Time // when x came
	score  float64
	scored time.Time // when the features of score came
}

// flight is a question, or a ping, that was sent and not answered.
type flight struct {
	id    uint64
	q     *question // nil: ping
	asked time.Time
	sent  time.Time
}

// queue is the pure part: which question goes next, and what an answer means. It
// has neither a clock nor a lock.
type queue struct {
	timeout time.Duration
	maxAge  time.Duration
	waiting []*question // in the order of asking
	flights []flight    // in the order of sending
	last    uint64      // id of the last question or ping
	heard   time.Time   // when the last answer came
	stats   Stats
	failing int    // errors in a row
	said    string // the text of the last error
}

func newQueue(timeout, maxAge time.Duration) queue {
	return queue{
		timeout: timeout, maxAge: maxAge,
		waiting: make([]*question, 0, maxScorers),
		flights: make([]flight, 0, window),
	}
}

// ask notes the features of a question and returns the latest score that counts, or
// NaN. wake says that something new is waiting.
func (q *queue) ask(c *question, x []float64, now time.Time) (score float64, wake bool) {
	if !c.fresh || !same(c.x, x) || c.state == idle && now.Sub(c.scored) > q.maxAge/2 {
		copy(c.x, x)
		c.asked, c.fresh = now, true
		wake = q.enqueue(c)
	}
	if c.scored.IsZero() || now.Sub(c.scored) > q.maxAge {
		return math.NaN(), wake
	}
	return c.score, wake
}

// same compares bit by bit: NaN is NaN.
func same(a, b []float64) bool {
	for i, v := range a {
		if math.Float64bits(v) != math.Float64bits(b[i]) {
			return false
		}
	}
	return true
}

func (q *queue) enqueue(c *question) (wake bool) {
	switch {
	case c.state == waiting || c.again:
		q.stats.Superseded++
		return false
	case c.state == flying:
		c.again = true
		return false
	}
	c.state = waiting
	q.waiting = append(q.waiting, c)
	return true
}

// next takes the question to send now. A question older than MaxAge is dropped:
// its answer would not count.
func (q *queue) next(now time.Time) (f flight, ok bool) {
	for len(q.waiting) > 0 && len(q.flights) < window {
		c := q.waiting[0]
		q.waiting = slices.Delete(q.waiting, 0, 1)
		if now.Sub(c.asked) > q.maxAge {
			c.state, c.fresh = idle, false
			q.stats.Expired++
			continue
		}
		c.state = flying
		q.stats.Asked++
		return q.send(c, c.asked, now), true
	}
	return flight{}, false
}

// ping notes a ping, which is due when nothing is in flight.
func (q *queue) ping(now time.Time) (f flight, ok bool) {
	if len(q.flights) > 0 {
		return flight{}, false
	}
	return q.send(nil, now, now), true
}

func (q *queue) send(c *question, asked, now time.Time) flight {
	q.last++
	f := flight{q.last, c, asked, now}
	q.flights = append(q.flights, f)
	return f
}

// deadline returns when the model is overdue. It may take the timeout for each
// question, one after the other, so the oldest is overdue a timeout after the answer
// before it; and however well it answers others, when it had time for all of them.
func (q *queue) deadline() (at time.Time, ok bool) {
	if len(q.flights) == 0 {
		return time.Time{}, false
	}
	sent := q.flights[0].sent
	at, limit := sent.Add(q.timeout), sent.Add(window*q.timeout)
	if turn := q.heard.Add(q.timeout); turn.After(at) {
		at = turn
	}
	if at.After(limit) {
		at = limit
	}
	return at, true
}

var errUnasked = errors.New("an answer that was not asked for")

// answer takes a line of the model.
func (q *queue) answer(a answer, now time.Time) (wake bool, err error) {
	i := slices.IndexFunc(q.flights, func(f flight) bool { return f.id == a.id })
	if i < 0 {
		return false, fmt.Errorf("%w: number %d", errUnasked, a.id)
	}
	f := q.flights[i]
	if (f.q == nil) != (a.kind == pong) {
		return false, fmt.Errorf("%w: %s %d", errUnasked, a.kind, a.id)
	}
	q.flights = slices.Delete(q.flights, i, i+1)
	q.heard = now
	if f.q == nil {
		return true, nil
	}
	q.stats.Latency = now.Sub(f.sent)
	c := f.q
	c.score, c.scored = a.score, f.asked
	if a.kind == failure {
		c.score = math.NaN()
	}
	q.count(a)
	c.state = idle
	if c.again {
		c.again = false
		q.enqueue(c)
	}
	return true, nil
}

func (q *queue) count(a answer) {
	if a.kind == failure {
		q.stats.Errors++
		q.failing, q.said = q.failing+1, a.text
		return
	}
	q.stats.Answered++
	q.failing = 0
}

// lost gives up what is in flight: the connection is gone. What waits goes on
// waiting.
func (q *queue) lost() {
	for _, f := range q.flights {
		if f.q == nil {
			continue
		}
		q.stats.Lost++
		f.q.state = idle
		if f.q.again {
			f.q.again = false
			q.enqueue(f.q)
		} else {
			f.q.fresh = false
		}
	}
	q.flights = q.flights[:0]
	q.failing = 0
}

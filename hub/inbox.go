package hub

import (
	"context"
	"sync"

	"github.com/edgeagent/edgeagent/buffer/block"
)

// Bounds of what goes into one commit, and of what waits meanwhile for the next, for each
// Run. Beyond them the input waits.
const (
	groupMessages = 512
	groupBytes    = 4 << 20              // of payloads
	groupRecords  = 4 * block.MaxRecords // of one commit only; the last block may go over it
)

// inbox holds what has arrived while a commit is under way. One goroutine puts, one takes.
type inbox struct {
	some chan struct{} // told when there is something
	room chan struct{} // told when there is room

	mu      sync.Mutex // guards what follows
	waiting []Delivery // at most groupMessages of groupBytes in all, or one
	bytes   int
	closed  bool
}

func newInbox() *inbox {
	return &inbox{some: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put waits until there is room. It returns false if ctx ended first.
func (q *inbox) put(ctx context.Context, d Delivery) bool {
	for !q.add(d) {
		select {
		case <-q.room:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (q *inbox) add(d Delivery) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.waiting)
	if n >= groupMessages || n > 0 && q.bytes+len(d.Payload) > groupBytes {
		return false
	}
	q.waiting = append(q.waiting, d)
	q.bytes += len(d.Payload)
	nudge(q.some)
	return true
}

// close says that nothing more comes.
func (q *inbox) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	nudge(q.some)
}

// take returns all that waits, as soon as there is something. It returns nothing if
// nothing more comes, or ctx ended. The slice spare is used for what comes next.
func (q *inbox) take(ctx context.Context, spare []Delivery) []Delivery {
	for {
		q.mu.Lock()
		list, closed := q.waiting, q.closed
		if len(list) > 0 {
			clear(spare)
			q.waiting, q.bytes = spare[:0], 0
		}
		q.mu.Unlock()
		if len(list) > 0 {
			nudge(q.room)
			return list
		}
		if closed {
			return nil
		}
		select {
		case <-q.some:
		case <-ctx.Done():
			return nil
		}
	}
}

// depth returns how many messages wait.
func (q *inbox) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// nudge tells whoever waits at c, once.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

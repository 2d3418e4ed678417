package gpio

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// fakeChip stands in for the kernel: it has lines by what they are called, and the
// rules of its queue.
type fakeChip struct {
	mu    sync.Mutex
	lines map[string]*fakeLine
	// silent drops what is set: a line that something else drives.
	stuck bool
}

type fakeLine struct {
	chip     *fakeChip
	request  request
	open     bool
	high     bool
	number   uint32
	queue    []fakeEdge
	arrived  chan struct{}
	failWith error
	levels   []bool // every level that was driven
}

type fakeEdge struct {
	at time.Time
	edge
}

func newFakeChip(names ...string) *fakeChip {
	c := &fakeChip{lines: map[string]*fakeLine{}}
	for _, n := range names {
		c.lines[n] = &fakeLine{chip: c}
	}
	return c
}

func (c *fakeChip) opener(r request) (line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.lines[r.place.Line]
	switch {
	case !ok:
		return nil, syscall.ENOENT
	case l.open:
		return nil, syscall.EBUSY
	}
	l.open, l.request, l.number, l.queue = true, r, 0, nil
	l.arrived = make(chan struct{}, 1)
	if r.output {
		l.drive(r.high)
	}
	return l, nil
}

func (l *fakeLine) drive(high bool) {
	l.levels = append(l.levels, high)
	if !l.chip.stuck {
		l.high = high
	}
}

// to moves the wire, as the world does.
func (l *fakeLine) to(high bool) {
	l.chip.mu.Lock()
	defer l.chip.mu.Unlock()
	if l.high == high {
		return
	}
	l.high = high
	if !l.open || high && !l.request.rising || !high && !l.request.falling {
		return
	}
	l.number++
	if len(l.queue) == 16 { // the kernel drops the oldest
		l.queue = l.queue[1:]
	}
	l.queue = append(l.queue, fakeEdge{time.Now(), edge{high: high, number: l.number}})
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}

func (l *fakeLine) level() (bool, error) {
	l.chip.mu.Lock()
	defer l.chip.mu.Unlock()
	if !l.open {
		return false, errors.New("used after close")
	}
	return l.high, l.failWith
}

func (l *fakeLine) set(high bool) error {
	l.chip.mu.Lock()
	defer l.chip.mu.Unlock()
	if l.failWith != nil {
		return l.failWith
	}
	l.drive(high)
	return nil
}

func (l *fakeLine) await(ctx context.Context) error {
	l.chip.mu.Lock()
	waiting := len(l.queue)
	l.chip.mu.Unlock()
	if waiting == 0 {
		select {
		case <-l.arrived:
		case <-ctx.Done():
		}
	}
	return nil
}

func (l *fakeLine) edges(dst []edge) ([]edge, error) {
	l.chip.mu.Lock()
	defer l.chip.mu.Unlock()
	for _, e := range l.queue {
		e.age = time.Since(e.at)
		dst = append(dst, e.edge)
	}
	l.queue = l.queue[:0]
	return dst, l.failWith
}

func (l *fakeLine) Close() error {
	l.chip.mu.Lock()
	defer l.chip.mu.Unlock()
	l.open = false
	return nil
}

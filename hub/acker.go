package hub

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgeagent/edgeagent"
)

// When an ack is due before its time, and how acks are sent.
const (
	ackMessages  = 256
	ackBytes     = 1 << 20
	ackAtOnce    = 16               // devices at a time
	ackTimeLimit = 10 * time.Second // for one publish
	ackRetry     = time.Second
)

// acker decides when which device hears what is held. It holds one entry for
// each device, at most as many as the hub knows.
type acker struct {
	every time.Duration
	wake  chan struct{} // told when something may be due earlier

	mu      sync.Mutex // guards devices
	devices map[*device]*pace
}

// pace is a device's place in the rhythm of acks.
type pace struct {
	epochs   map[edgeagent.Epoch]struct{} // with something to tell; empty = nothing to do
	due      time.Time                    // of the next ack, if there is anything to tell
	last     time.Time                    // of the last ack
	messages int                          // since then
	bytes    int
	looks    map[edgeagent.Epoch]time.Time // when holes may be asked for
}

func newAcker(every time.Duration) *acker {
	return &acker{every: every, wake: make(chan struct{}, 1), devices: map[*device]*pace{}}
}

// touch notes that a message of dev has been dealt with.
func (a *acker) touch(dev *device, epochs []edgeagent.Epoch, bytes int) {
	if len(epochs) == 0 {
		return
	}
	if a.note(dev, epochs, bytes, time.Now()) {
		nudge(a.wake)
	}
}

// note reports whether the device's ack is due earlier than before.
func (a *acker) note(dev *device, epochs []edgeagent.Epoch, bytes int, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.devices[dev]
	if p == nil {
		p = &pace{epochs: map[edgeagent.Epoch]struct{}{}, looks: map[edgeagent.Epoch]time.Time{}}
		a.devices[dev] = p
	}
	idle := len(p.epochs) == 0
	for _, e := range epochs {
		p.epochs[e] = struct{}{}
	}
	p.messages++
	p.bytes += bytes
	due := p.due
	if idle {
		due = later(now, p.last.Add(a.every))
	}
	if p.messages >= ackMessages || p.bytes >= ackBytes {
		due = now
	}
	earlier := idle || due.Before(p.due)
	p.due = due
	return earlier
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// job is one device's turn.
type job struct {
	dev    *device
	epochs []edgeagent.Epoch
}

// collect returns what is due and when the next ack is, zero if none is.
func (a *acker) collect(now time.Time) (jobs []job, next time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for dev, p := range a.devices {
		next = earliest(next, p.look(now, a.every))
		switch {
		case len(p.epochs) == 0:
		case p.due.After(now):
			next = earliest(next, p.due)
		default:
			j := job{dev: dev}
			for e := range p.epochs {
				j.epochs = append(j.epochs, e)
			}
			clear(p.epochs)
			p.last, p.messages, p.bytes = now, 0, 0
			jobs = append(jobs, j)
		}
	}
	return jobs, next
}

// look makes an ack due for epochs whose holes may be asked for, and returns when the
// next ones may.
func (p *pace) look(now time.Time, every time.Duration) (next time.Time) {
	for e, at := range p.looks {
		if at.After(now) {
			next = earliest(next, at)
			continue
		}
		delete(p.looks, e)
		if len(p.epochs) == 0 {
			p.due = later(now, p.last.Add(every))
		}
		p.epochs[e] = struct{}{}
	}
	return next
}

// lookAgain notes when holes of an epoch may be asked for; zero is never.
func (a *acker) lookAgain(dev *device, e edgeagent.Epoch, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at.IsZero() {
		delete(a.devices[dev].looks, e)
		return
	}
	a.devices[dev].looks[e] = at
}

// again puts back what could not be told.
func (a *acker) again(dev *device, e edgeagent.Epoch, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.devices[dev]
	if len(p.epochs) == 0 {
		p.due = now.Add(max(ackRetry, a.every))
	}
	p.epochs[e] = struct{}{}
}

// run sends acks until ctx ends.
func (a *acker) run(ctx context.Context, h *Hub, in Input) {
	for ctx.Err() == nil {
		jobs, next := a.collect(time.Now())
		if len(jobs) > 0 {
			a.send(ctx, h, in, jobs)
			continue
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-timer:
		case <-a.wake:
		case <-ctx.Done():
		}
	}
}

// send publishes the acks of several devices at once. What fails is due again
// later: an ack is cumulative, so none needs to be kept.
func (a *acker) send(ctx context.Context, h *Hub, in Input, jobs []job) {
	var g errgroup.Group
	g.SetLimit(ackAtOnce)
	for _, j := range jobs {
		g.Go(func() error {
			for _, e := range j.epochs {
				if !a.tell(ctx, h, in, j.dev, e) {
					a.again(j.dev, e, time.Now())
				}
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
}

// tell publishes one ack.
func (a *acker) tell(ctx context.Context, h *Hub, in Input, dev *device, e edgeagent.Epoch) bool {
	if h.opts.Shared && !h.refresh(ctx, dev, e) {
		return false
	}
	ack, ok := h.ack(dev, e)
	if !ok {
		return true
	}
	var next time.Time
	ack.Replay, next = h.wants(dev, e, time.Now())
	a.lookAgain(dev, e, next)
	payload, err := json.Marshal(ack)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, ackTimeLimit)
		defer cancel()
		err = in.Publish(ctx, dev.key.ackTopic(), payload)
	}
	h.countAck(err)
	return err == nil
}

// refresh takes over what other workers have stored of an epoch, so that the ack speaks
// of it and asks for nothing that they hold. It returns false if ctx ended.
func (h *Hub) refresh(ctx context.Context, dev *device, id edgeagent.Epoch) bool {
	select {
	case h.worker <- struct{}{}:
		defer func() { <-h.worker }()
	case <-ctx.Done():
		return false
	}
	h.mu.Lock()
	ep := dev.find(id)
	names := ep != nil && len(ep.waiting) > 0
	h.mu.Unlock()
	if ep == nil {
		return true
	}
	return h.reload(ctx, dev, ep, names) && (!names || h.takeUp(ctx, dev, ep))
}

// ack returns what is held of an epoch, unless it has been forgotten.
func (h *Hub) ack(dev *device, id edgeagent.Epoch) (edgeagent.Ack, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ep := dev.find(id)
	if ep == nil {
		return edgeagent.Ack{}, false
	}
	return ep.ack(h.opts.Name, h.lim), true
}

func (h *Hub) countAck(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.count.ackErrors++
		return
	}
	h.count.acks++
}

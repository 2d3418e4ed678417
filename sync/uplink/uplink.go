package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// Options is what an uplink may use besides its configuration. The zero value is
// good for blocks.
type Options struct {
	// Device is the name that text formats write.
	Device string
	// Format makes the payload of text destinations; nil sends blocks. Its name
	// must be the configured format.
	Format Format
	Clock  clock.Clock  // default clock.Go
	Logger *slog.Logger // default: none
	// Seed makes the jitter of the back-off repeatable; 0 draws one.
	Seed uint64
	// OnRewind is called when a receiver has proved that the buffer was put back
	// and the log has taken note of it, at most once, by the goroutine of Run,
	// which it must not block. From then on the destination sends nothing.
	OnRewind func(Rewind)
	// Memory keeps what is used of the quota over restarts. Without it a month begins
	// anew with each process.
	Memory Memory
	// Wire counts the bytes that this destination's links have carried so far, both
	// ways. Without it the budget counts messages, with an estimate of what is around
	// them.
	Wire func() uint64
	// Hold reports whether readings that were taken without a trusted clock should wait,
	// because their times will be right soon. It is asked again every second. It is for
	// text formats: blocks are put right by their receiver.
	Hold func(edgeagent.BatchHeader) bool
}

// Uplink is one destination. All methods are safe for concurrent use.
type Uplink struct {
	cfg       Config
	transport Transport
	log       Log
	clock     clock.Clock
	slog      *slog.Logger
	wake      chan struct{} // room for one: something happened
	grown     atomic.Bool   // something was appended since the engine looked

	// Owned by Run.
	engine  *engine
	session *session
	running sync.WaitGroup
	lastErr string // last one logged
	told    uint64 // confirms of the log that waiters know of

	mu      sync.Mutex // guards what follows
	stats   Stats
	health  edgeagent.Health
	hurry   bool
	waiters map[chan struct{}]bool // of Flush: told when something was confirmed
	started bool
}

// New returns an uplink for one destination: what is in log goes through t.
func New(cfg Config, log Log, t Transport, o Options) (*Uplink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("uplink %s: %w", cfg.Name, err)
	}
	cfg = cfg.WithDefaults()
	name := FormatBlock
	if o.Format != nil {
		name = o.Format.Name()
	}
	if name != cfg.Format {
		return nil, fmt.Errorf("uplink %s: format is %s, but the encoder makes %s", cfg.Name, cfg.Format, name)
	}
	if o.Clock == nil {
		o.Clock = clock.Go()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	u := &Uplink{
		cfg: cfg, transport: t, log: log, clock: o.Clock, slog: o.Logger.With("uplink", cfg.Name),
		wake: make(chan struct{}, 1), waiters: map[chan struct{}]bool{},
	}
	u.engine = newEngine(cfg, log, newFeed(log, o.Format, o.Device), u, o.Clock, u.slog, rand.New(rand.NewPCG(o.Seed, 0)))
	u.engine.onRewind, u.engine.memory, u.engine.wire = o.OnRewind, o.Memory, o.Wire
	if cfg.Order == NewestFirst {
		u.engine.f.newestFirst()
	}
	if o.Format != nil {
		u.engine.hold, u.engine.f.hold = o.Hold, o.Hold
	}
	u.engine.restore()
	u.publish()
	u.stats.State = Stopped
	return u, nil
}

// Run sends until ctx ends. Then it says goodbye: results of what is on the way are
// awaited, and alarms and events go out if there is a session, for at most 3 s, before
// the transport closes the session in order. Run may be called once. It returns nil
// or an error of programming; trouble with the link or the log is for Health.
func (u *Uplink) Run(ctx context.Context) error {
	u.mu.Lock()
	again := u.started
	u.started = true
	u.mu.Unlock()
	if again {
		return errors.New("uplink runs already")
	}
	defer u.running.Wait()
	work := context.WithoutCancel(ctx) // shutdown still reads and confirms
	watch, stopWatch := context.WithCancel(work)
	defer stopWatch()
	u.running.Go(func() { u.watch(watch) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	end := ctx.Done()
	for steps := 1; ; steps++ {
		u.look()
		wait, exit := u.engine.step(work)
		if exit || wait > 0 || steps%publishEvery == 0 {
			u.publish()
		}
		if exit {
			u.engine.finish()
			u.publish()
			return nil
		}
		if wait == 0 && steps%publishEvery != 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-u.wake:
		case <-timer.C:
		case <-end:
			end = nil
			u.engine.m.stop(u.clock.Run())
		}
	}
}

// publishEvery is the number of steps after which Stats are fresh, even when the
// engine has no time to wait. Then it also looks whether Run should end.
const publishEvery = 64

// watchPause is the wait after the log could not say whether it has grown.
const watchPause = time.Second

// watch wakes the engine when something is appended.
func (u *Uplink) watch(ctx context.Context) {
	var seen uint64
	for ctx.Err() == nil {
		n, err := u.log.Wait(ctx, seen)
		if err == nil {
			seen = n
			u.grown.Store(true)
			u.notify()
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

func (u *Uplink) notify() {
	select {
	case u.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// look tells the machine what has happened.
func (u *Uplink) look() {
	hurry := u.takeHurry()
	if u.grown.Swap(false) || hurry {
		u.engine.poll()
	}
	if hurry {
		u.engine.m.hurry(u.clock.Run())
	}
	if u.session == nil {
		return
	}
	in := u.session.takeAll()
	now, m := u.clock.Run(), u.engine.m
	if in.up {
		m.connectionUp(now, in.caps)
		u.engine.f.texts.begin(in.caps.LetsGo)
		u.lastErr = ""
	}
	if in.up && m.phase == up {
		u.slog.Info("uplink is up", "link", u.transport.String())
	}
	handed := u.session.handed.Load()
	for _, r := range in.results {
		m.result(now, r)
		u.engine.f.texts.result(r.ID, handed)
	}
	for _, a := range in.acks {
		u.engine.ack(a)
	}
	if in.hinted {
		u.engine.hint(in.hint)
	}
	m.count.strays += in.overflow
	m.count.acksIgnored += in.stale
	if in.sendErr != nil {
		m.linkBroken(in.sendErr)
	}
	if in.ended {
		u.ended(in)
	}
}

func (u *Uplink) ended(in inbox) {
	u.session.cancel()
	u.session = nil
	u.engine.f.texts.begin(false)
	m := u.engine.m
	now, wasUp, wasParked := u.clock.Run(), m.isUp, m.parked
	m.connectionEnded(now, in.endErr)
	if m.stopping || m.lastErr == nil {
		return
	}
	if wasParked {
		u.slog.Info("uplink is down until it is needed", "link", u.transport.String())
		return
	}
	// A dead link is tried for weeks: the same error is worth one line.
	if text := m.lastErr.Error(); wasUp || text != u.lastErr {
		u.lastErr = text
		u.slog.Warn("uplink is down", "link", u.transport.String(), "error", m.lastErr, "retry_in", m.retryAt-now)
	}
}

// connect implements link.
func (u *Uplink) connect(ctx context.Context) {
	must(u.session == nil, oneSession)
	ctx, cancel := context.WithCancel(ctx)
	s := newSession(cancel, u.notify)
	u.session = s
	u.running.Go(func() { s.end(u.transport.Session(ctx, s, s.run)) })
}

// hangUp implements link.
func (u *Uplink) hangUp() { u.session.cancel() }

// send implements link. There is room: the queue is as large as the window.
func (u *Uplink) send(m Message) { u.session.down <- m }

// Flush returns when everything that was appended before the call is confirmed, or
// with ctx's error. Live readings do not linger for it.
func (u *Uplink) Flush(ctx context.Context) error {
	type target struct {
		epoch edgeagent.Epoch
		next  edgeagent.Seq
	}
	var targets [5]target
	for _, s := range edgeagent.Streams() {
		e, next := u.log.Cursor(s).Head()
		targets[s] = target{e, next}
	}
	told := make(chan struct{}, 1)
	u.mu.Lock()
	u.waiters[told] = true
	u.hurry = true
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		delete(u.waiters, told)
		u.mu.Unlock()
	}()
	u.notify()
	for _, s := range edgeagent.Streams() {
		for {
			done, err := reached(ctx, u.log.Cursor(s), targets[s].epoch, targets[s].next)
			if err != nil {
				return fmt.Errorf("flush %s: %w", u.cfg.Name, err)
			}
			if done {
				break
			}
			select {
			case <-told:
			case <-ctx.Done():
				return fmt.Errorf("flush %s: %w", u.cfg.Name, ctx.Err())
			}
		}
	}
	return nil
}

// reached reports whether everything of the epochs before e, and everything below
// next in e, is confirmed.
func reached(ctx context.Context, c Cursor, e edgeagent.Epoch, next edgeagent.Seq) (bool, error) {
	if c.Unconfirmed() == 0 {
		return true, nil
	}
	if newest, _ := c.Head(); newest == e && c.LiveFrom(math.MinInt64) < next {
		return false, nil
	}
	_, more, err := c.Backlog(1, nil).Next(ctx, edgeagent.Limit{Records: 1})
	return !more, err
}

func (u *Uplink) takeHurry() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	h := u.hurry
	u.hurry = false
	return h
}

package uplink

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// link carries messages; the shell implements it with goroutines and a transport.
// None of the methods waits for the network.
type link interface {
	connect(ctx context.Context)
	hangUp()
	send(Message)
}

// engine carries out what the machine decides. One goroutine calls it.
type engine struct {
	m     *machine
	f     *feed
	log   Log
	link  link
	clock clock.Clock
	slog  *slog.Logger
	// onRewind is told of a rewind that the log has taken note of; it may be nil.
	onRewind func(Rewind)
	memory   Memory                           // nil: a quota begins anew with each process
	wire     func() uint64                    // nil: nobody counts
	hold     func(edgeagent.BatchHeader) bool // nil: nothing waits for the clock
}

// newEngine puts a machine and a feed together.
func newEngine(cfg Config, log Log, f *feed, l link, c clock.Clock, logger *slog.Logger, rnd *rand.Rand) *engine {
	e := &engine{m: newMachine(cfg, rnd), f: f, log: log, link: l, clock: c, slog: logger}
	f.piece, f.moves = e.m.poison.piece, e.distrusts
	if newest := f.heads().epoch; log.Rewound(newest) { // nobody has started anew since
		e.m.distrust(newest, true, errRewound)
	}
	return e
}

// step carries out one action. It returns how long to wait before the next step, 0
// for not at all; exit means that there is nothing more to do.
func (e *engine) step(ctx context.Context) (wait time.Duration, exit bool) {
	now := e.clock.Run()
	e.calendar(now)
	switch a := e.m.next(now); a.kind {
	case actWait:
		return max(a.until-now, time.Microsecond), false
	case actExit:
		return 0, true
	case actConnect:
		e.link.connect(ctx)
	case actHangUp:
		e.link.hangUp()
	case actOpen:
		from, head := e.f.open(e.since(e.m.cfg.LiveWindow), e.m.outstanding)
		e.m.readersOpen(now, from, head)
	case actReopen:
		e.f.reopen(a.stream, e.m.outstanding(a.stream))
	case actRaise:
		e.raise(now)
	case actRead:
		e.read(ctx, now, a)
	case actSeries:
		e.series(a)
	case actMarks:
		e.marks(a)
	case actConfirm:
		e.confirm(ctx, now, a)
	case actReplay:
		e.replay(ctx, a)
	case actProve:
		e.prove(ctx, a)
	case actBury:
		e.bury(ctx, a.letter)
	case actRemember:
		e.remember(false)
	}
	return 0, false
}

// since returns the wall time that lies d back, in Unix ns.
func (e *engine) since(d time.Duration) int64 { return e.clock.Wall().Add(-d).UnixNano() }

// raise leaves half of the live window: were it all of it, live would be late again
// at once.
func (e *engine) raise(now time.Duration) {
	from, head, ok := e.f.raise(e.since(e.m.cfg.LiveWindow/2), e.m.outstanding(edgeagent.StreamTelemetry))
	if !ok {
		e.m.newEpoch()
		return
	}
	e.m.raised(now, from, head)
	e.slog.Info("live readings fall behind and go with the backlog", "from", uint64(from))
}

func (e *engine) read(ctx context.Context, now time.Duration, a action) {
	out, ok, err := e.f.message(ctx, a.lane, a.sizes, e.m.series)
	var large *tooLargeError
	switch {
	case errors.As(err, &large):
		e.m.strike(now, record{place{large.head.Epoch, large.head.Stream}, large.head.First}, err)
		e.slog.Warn("a record is too large for the link", "lane", a.lane.String(), "error", err)
	case err != nil:
		e.m.failed(now, a.lane, err)
		e.slog.Warn("lane paused", "lane", a.lane.String(), "error", err)
	case !ok:
		e.m.empty(a.lane)
		if a.lane == LaneBacklog {
			e.f.texts.rest()
		}
	case out.held:
		e.m.hold(now, a.lane, out.head)
	case out.move:
		e.move(ctx, a.lane, out.head)
	default:
		e.send(a.lane, out)
	}
}

func (e *engine) series(a action) {
	out, err := e.f.series(a.needed, a.sizes)
	if err != nil {
		e.slog.Warn("cannot send the series that the receiver asked for", "error", err)
		return
	}
	if len(out.payload) > 0 {
		e.send(LaneBacklog, out)
	}
}

// marks sends one message of marks, and says whether there are more.
func (e *engine) marks(a action) {
	now := e.clock.Run()
	out, more, err := e.f.marks(a.sizes)
	if err != nil {
		e.m.marksFailed(now)
		e.slog.Warn("cannot send marks", "error", err)
		return
	}
	e.m.marksSent(now, more)
	if len(out.payload) > 0 {
		e.m.announce(now)
		e.send(LaneEvent, out)
	}
}

func (e *engine) send(l Lane, out outgoing) {
	format := FormatBlock
	if e.f.format != nil {
		format = e.f.format.Name()
	}
	id := e.m.sent(e.clock.Run(), l, out.head, len(out.payload), out.series)
	if e.f.format != nil {
		e.f.texts.lend(id, out.payload)
	}
	e.link.send(Message{ID: id, Lane: l, Payload: out.payload, Identity: out.head, ContentType: format, Encoding: e.f.encoding})
}

func (e *engine) confirm(ctx context.Context, now time.Duration, a action) {
	if err := e.log.Ack(ctx, a.epoch, a.stream, a.ranges); err != nil {
		e.m.confirmFailed(now, err)
		e.slog.Warn("buffer did not take an acknowledgement", "stream", a.stream.String(), "error", err)
		return
	}
	e.m.confirmed(a)
}

// poll tells the machine what was appended.
func (e *engine) poll() {
	if !e.m.opened {
		return // opening looks for itself
	}
	now := e.clock.Run()
	if !e.f.poll(func(s edgeagent.Stream, head edgeagent.Seq) { e.m.appended(now, s, head) }) {
		e.m.newEpoch()
	}
	if v := e.log.MarksVersion(); v != e.f.marked {
		e.f.marked = v
		e.m.marksChanged()
	}
}

// ack hands an acknowledgement to the machine.
func (e *engine) ack(payload []byte) {
	a, err := edgeagent.ParseAck(payload)
	if err != nil {
		e.m.count.acksIgnored++
		e.m.count.ackErr = err
		return
	}
	h := e.f.heads()
	e.distrusts(a.Epoch, h.epoch) // which may be known from an earlier life
	e.m.ack(e.clock.Run(), a, h, e.log.RunAt)
}

package faultnet

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Direction is one way through a link, seen from whoever dials.
type Direction uint8

// The directions.
const (
	Up   Direction = iota // from the dialer
	Down                  // to the dialer
)

func (d Direction) String() string {
	if d == Up {
		return "up"
	}
	return "down"
}

// Link is a dialer whose stream connections go through a bad network. Make one with
// [NewLink], and let [Link.Run] run for as long as connections are used.
type Link struct {
	dial  DialFunc
	joins chan *flow
	acks  ackFaults

	mu      sync.Mutex // guards what follows
	shapers [2]*shaper
	changed chan struct{} // closed and replaced when faults change
	flows   map[*flow]struct{}
}

// NewLink returns a link without faults that dials with dial, or with a plain
// [net.Dialer] if dial is nil. What chance decides follows from seed alone, given
// the same packets at the same times.
func NewLink(dial DialFunc, seed uint64) *Link {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &Link{
		dial: dial, joins: make(chan *flow), changed: make(chan struct{}), flows: map[*flow]struct{}{},
		shapers: [2]*shaper{newShaper(seed, 0), newShaper(seed, 1)},
	}
}

// Set replaces the faults of a direction. What is on its way already arrives as it
// was going to, unless it is stalled or lost in a black hole. Invalid faults panic:
// they are the mistake of a test.
func (l *Link) Set(d Direction, f Faults) {
	if err := f.Validate(); err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shapers[d].faults = f
	close(l.changed)
	l.changed = make(chan struct{})
}

// Reset ends every connection; a TCP peer sees it reset.
func (l *Link) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := range l.flows {
		if t, ok := f.inner.(interface{ SetLinger(sec int) error }); ok {
			_ = t.SetLinger(0)
		}
		f.end()
	}
}

// Open returns how many connections are open.
func (l *Link) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flows)
}

// Run carries the packets of all connections until ctx ends, and then ends them.
func (l *Link) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case f := <-l.joins:
			stop := context.AfterFunc(ctx, f.end)
			wg.Go(func() { f.run(); stop() })
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// DialContext opens a connection through the link. It waits for [Link.Run]. While
// either direction stalls or is a black hole it waits for the end of that, or of
// ctx.
func (l *Link) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := l.passable(ctx); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	inner, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	near, f := l.carry(inner)
	select {
	case l.joins <- f:
		return near, nil
	case <-ctx.Done():
		f.end()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
}

// passable waits until a handshake could get through, and for as long as it takes.
func (l *Link) passable(ctx context.Context) error {
	for {
		l.mu.Lock()
		up, down, changed := l.shapers[Up].faults, l.shapers[Down].faults, l.changed
		l.mu.Unlock()
		wait := (<-chan struct{})(changed)
		var after <-chan time.Time
		if !up.Stall && !up.Blackhole && !down.Stall && !down.Blackhole {
			rtt := up.Latency + down.Latency
			if rtt == 0 {
				return nil
			}
			timer := time.NewTimer(rtt)
			defer timer.Stop()
			after, wait = timer.C, nil
		}
		select {
		case <-after:
			return nil
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// carry puts the link between inner and the connection that it returns.
func (l *Link) carry(inner net.Conn) (near net.Conn, f *flow) {
	a, b := net.Pipe()
	f = &flow{link: l, far: b, inner: inner, over: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flows[f] = struct{}{}
	return &streamConn{Conn: a, inner: inner}, f
}

// streamConn is the dialer's end: a pipe with the addresses of the connection.
type streamConn struct {
	net.Conn
	inner net.Conn
}

func (c *streamConn) LocalAddr() net.Addr  { return c.inner.LocalAddr() }
func (c *streamConn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// flow is one connection through the link.
type flow struct {
	link  *Link
	far   net.Conn // of the pipe to the dialer
	inner net.Conn // to the server
	once  sync.Once
	over  chan struct{} // closed: both ends are
}

func (f *flow) end() {
	f.once.Do(func() {
		close(f.over)
		_, _ = f.far.Close(), f.inner.Close()
	})
}

// run carries both directions until both ends are closed.
func (f *flow) run() {
	var wg sync.WaitGroup
	for _, d := range []Direction{Up, Down} {
		src, dst := f.far, f.inner
		if d == Down {
			src, dst = dst, src
		}
		p := &pump{flow: f, direction: d, segments: make(chan segment, 4096), room: make(chan struct{}, 1)}
		wg.Go(func() { p.take(src) })
		wg.Go(func() { p.give(dst) })
	}
	wg.Wait()
	f.link.mu.Lock()
	defer f.link.mu.Unlock()
	delete(f.link.flows, f)
}

// segment is a piece of a stream on its way.
type segment struct {
	data []byte
	at   time.Time
}

// pump carries one direction of a flow.
type pump struct {
	flow      *flow
	direction Direction
	segments  chan segment // closed by take; the window bounds it in bytes as well
	last      time.Time    // when the newest arrives

	mu      sync.Mutex // guards waiting
	waiting int        // bytes
	room    chan struct{}
}

// take reads what is sent, decides when it arrives, and stops reading while too
// much is on its way: the sender's buffers fill up as they would.
func (p *pump) take(src io.Reader) {
	defer close(p.segments)
	read := segments(src)
	if p.direction == Down && p.flow.link.acks.any() {
		read = p.flow.link.acks.packets(src)
	}
	for {
		pieces, err := read()
		for _, piece := range pieces {
			if len(piece.data) > 0 && !p.enter(piece) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// enter puts one piece on its way; false when the flow is over.
func (p *pump) enter(piece piece) bool {
	l := p.flow.link
	l.mu.Lock()
	s := l.shapers[p.direction]
	x := s.stream(time.Now(), p.last, len(piece.data))
	bound, hole := s.faults.queue(), s.faults.Blackhole
	l.mu.Unlock()
	if hole { // a stream that lost bytes can deliver nothing any more
		p.drain()
		return false
	}
	p.last = x.at.Add(piece.delay)
	x.apply(piece.data)
	for !p.reserve(len(piece.data), bound) {
		select {
		case <-p.room:
		case <-p.flow.over:
			return false
		}
	}
	select {
	case p.segments <- segment{piece.data, p.last}:
		return true
	case <-p.flow.over:
		return false
	}
}

// drain keeps a flow open that leads nowhere: its sender goes on until it gives up.
func (p *pump) drain() {
	src := p.flow.far
	if p.direction == Down {
		src = p.flow.inner
	}
	_, _ = io.Copy(io.Discard, src)
	p.flow.end()
}

func (p *pump) reserve(n, bound int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting > 0 && p.waiting+n > bound {
		return false
	}
	p.waiting += n
	return true
}

func (p *pump) release(n int) {
	p.mu.Lock()
	p.waiting -= n
	p.mu.Unlock()
	select {
	case p.room <- struct{}{}:
	default:
	}
}

// give writes each segment when its time has come.
func (p *pump) give(dst net.Conn) {
	for s := range p.segments {
		if !p.due(s.at) {
			return
		}
		_, err := dst.Write(s.data)
		p.release(len(s.data))
		if err != nil {
			break
		}
	}
	p.flow.end() // the sender is gone, and all it sent has arrived
}

// due waits until a segment arrives; false when the flow is over.
func (p *pump) due(at time.Time) bool {
	l := p.flow.link
	for {
		l.mu.Lock()
		held, changed := l.shapers[p.direction].faults.Stall || l.shapers[p.direction].faults.Blackhole, l.changed
		l.mu.Unlock()
		if !held {
			if wait := time.Until(at); wait > 0 {
				timer := time.NewTimer(wait)
				select {
				case <-timer.C:
				case <-changed:
				case <-p.flow.over:
				}
				timer.Stop()
				if p.ended() {
					return false
				}
				continue
			}
			return !p.ended()
		}
		select {
		case <-changed:
		case <-p.flow.over:
			return false
		}
	}
}

func (p *pump) ended() bool {
	select {
	case <-p.flow.over:
		return true
	default:
		return false
	}
}

// piece is what take reads at once, with a delay of its own.
type piece struct {
	data  []byte
	delay time.Duration
}

// segments reads pieces as TCP cuts them.
func segments(src io.Reader) func() ([]piece, error) {
	return func() ([]piece, error) {
		buf := make([]byte, segmentBytes)
		n, err := src.Read(buf)
		if n == 0 {
			return nil, err
		}
		return []piece{{data: buf[:n]}}, err
	}
}

// Step is a moment of a script.
type Step struct {
	After     time.Duration // the step before
	Direction Direction
	Faults    Faults
	Both      bool // directions
	Reset     bool // end every connection as well
}

// Play carries out a script, and returns early with the error of ctx.
func (l *Link) Play(ctx context.Context, script []Step) error {
	for _, s := range script {
		timer := time.NewTimer(s.After)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		l.Set(s.Direction, s.Faults)
		if s.Both {
			l.Set(1-s.Direction, s.Faults)
		}
		if s.Reset {
			l.Reset()
		}
	}
	return nil
}

// Serve accepts connections and joins each with one through the link to addr,
// until ctx ends: a proxy for programs that cannot be given a dialer. It closes ln.
func (l *Link) Serve(ctx context.Context, ln net.Listener, network, addr string) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := ln.Accept()
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		wg.Go(func() { l.join(ctx, c, network, addr) })
	}
}

func (l *Link) join(ctx context.Context, c net.Conn, network, addr string) {
	defer c.Close()
	server, err := l.DialContext(ctx, network, addr)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _, _ = c.Close(), server.Close() })
	defer stop()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, server}, {server, c}} {
		wg.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			_, _ = c.Close(), server.Close()
		})
	}
	wg.Wait()
}

package coap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	datagramSize = 2048 // the largest datagram that is read
	writeTimeout = 5 * time.Second
	writeChunk   = 8 << 10 // bytes that a stream's peer must take within writeTimeout
	maxStreamIn  = 1<<20 + 512
	csmDefault   = 1152 // Max-Message-Size of a peer that says nothing (RFC 8323 section 5.3.1)
	headRoom     = 256  // bytes of header and options in a message over a stream
)

// conn is one connection to a server, over datagrams or a stream. Its methods are
// safe for concurrent use; callbacks come from any goroutine, with no lock held.
type conn struct {
	raw       net.Conn
	keepAlive time.Duration
	now       func() time.Time
	woken     chan struct{} // the timer is to be looked at; holds one word
	over      chan struct{} // closed at the end

	mu     sync.Mutex // guards what follows
	udp    *reliable  // nil over a stream
	stream *streamOut // nil over datagrams
	caller *caller
	dead   error // why the connection has ended
	heard  time.Time
	ping   func(error) // of the ping that is under way
	pinged time.Time
}

// newDatagramConn returns a connection over raw, which keeps the bounds of datagrams.
func newDatagramConn(raw net.Conn, rng *rand.Rand, keepAlive time.Duration) *conn {
	c := newConn(raw, keepAlive)
	c.udp = newReliable(rng)
	c.caller = newCaller(rng, (*datagrams)(c))
	return c
}

// newStreamConn returns a connection over a stream, on which nothing was sent yet.
func newStreamConn(raw net.Conn, rng *rand.Rand, keepAlive time.Duration) *conn {
	c := newConn(raw, keepAlive)
	c.stream = &streamOut{ready: make(chan struct{}, 1), limit: csmDefault}
	c.caller = newCaller(rng, (*streamed)(c))
	c.caller.whole = csmDefault - headRoom
	c.stream.put(csm())
	return c
}

func newConn(raw net.Conn, keepAlive time.Duration) *conn {
	return &conn{
		raw: raw, keepAlive: keepAlive, now: time.Now, heard: time.Now(),
		woken: make(chan struct{}, 1), over: make(chan struct{}),
	}
}

// csm is the first message on a stream: we take messages of a megabyte, and blocks.
func csm() *message {
	m := &message{code: signalCSM}
	m.addUint(optMaxMessageSize, maxStreamIn)
	m.add(optBlockWise, nil)
	return m
}

// datagrams and streamed are what carries a caller's messages; conn.mu is held.
type (
	datagrams conn
	streamed  conn
)

func (d *datagrams) ready() bool { return d.udp.idle() }
func (d *datagrams) send(now time.Time, m *message) *outgoing {
	return d.udp.confirm(now, m) // has room: ready was asked for
}
func (d *datagrams) cancel(now time.Time, o *outgoing) { d.udp.cancel(now, o) }

func (s *streamed) ready() bool { return s.stream.told }
func (s *streamed) send(_ time.Time, m *message) *outgoing {
	s.stream.put(m)
	return nil
}
func (s *streamed) cancel(time.Time, *outgoing) {}

// streamOut is what waits to be written to a stream. It is bounded by the number of
// requests at once.
type streamOut struct {
	queue [][]byte
	ready chan struct{} // holds one word
	limit int           // bytes of a message that the peer takes
	told  bool          // the peer's CSM has come
	block bool          // the peer takes blocks
}

func (s *streamOut) put(m *message) {
	s.queue = append(s.queue, appendTCP(nil, m))
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// do runs f with the lock held, then sends what came of it.
func (c *conn) do(f func(now time.Time)) {
	c.mu.Lock()
	now := c.now()
	if c.dead == nil {
		f(now)
		c.flush()
	}
	later := c.caller.takeLater()
	if c.dead != nil && c.ping != nil {
		ping, err := c.ping, c.dead
		c.ping = nil
		later = append(later, func() { ping(err) })
	}
	c.mu.Unlock()
	for _, f := range later {
		f()
	}
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// flush writes datagrams; c.mu is held. A socket for datagrams does not block.
func (c *conn) flush() {
	if c.udp == nil {
		return
	}
	for _, b := range c.udp.take() {
		if _, err := c.raw.Write(b); err != nil {
			c.fail(fmt.Errorf("send: %w", err))
			return
		}
	}
}

// fail ends the connection; c.mu is held.
func (c *conn) fail(err error) {
	if c.dead == nil {
		c.dead = err
		close(c.over)
	}
}

// start begins a request; done is called unless the connection ends first.
func (c *conn) start(req *request, done func(response, error)) {
	c.do(func(now time.Time) { c.caller.start(now, req, done) })
}

// call makes a request and waits for the response.
func (c *conn) call(ctx context.Context, req *request) (response, error) {
	return c.wait(ctx, func(done func(response, error)) { c.start(req, done) })
}

// observe watches a resource; it returns the first response.
func (c *conn) observe(ctx context.Context, req *request, notify func(response)) (response, error) {
	return c.wait(ctx, func(done func(response, error)) {
		c.do(func(now time.Time) { c.caller.observe(now, req, notify, done) })
	})
}

func (c *conn) wait(ctx context.Context, begin func(done func(response, error))) (response, error) {
	type outcome struct {
		r   response
		err error
	}
	ch := make(chan outcome, 1)
	begin(func(r response, err error) { ch <- outcome{r, err} })
	select {
	case x := <-ch:
		return x.r, x.err
	case <-c.over:
		select {
		case x := <-ch:
			return x.r, x.err
		default:
		}
		return response{}, c.why()
	case <-ctx.Done():
		return response{}, context.Cause(ctx)
	}
}

// alive asks the peer for a sign of life.
func (c *conn) alive(ctx context.Context) error {
	_, err := c.wait(ctx, func(done func(response, error)) {
		c.do(func(now time.Time) { c.sendPing(now, func(err error) { done(response{}, err) }) })
	})
	return err
}

func (c *conn) sendPing(now time.Time, done func(error)) {
	if c.ping != nil {
		return
	}
	c.ping, c.pinged = done, now
	if c.udp != nil {
		c.udp.ping(now)
		return
	}
	c.stream.put(&message{code: signalPing, token: c.caller.newToken()})
}

func (c *conn) ponged() {
	if done := c.ping; done != nil {
		c.ping = nil
		c.caller.later = append(c.caller.later, func() { done(nil) })
	}
}

// why says how the connection has ended.
func (c *conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead == nil {
		return net.ErrClosed
	}
	return c.dead
}

// run serves the connection until it ends or ctx does, and closes it.
func (c *conn) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		c.fail(context.Cause(ctx))
		c.mu.Unlock()
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	var wg sync.WaitGroup
	wg.Go(c.tickLoop)
	if c.stream != nil {
		wg.Go(c.writeLoop)
	}
	wg.Go(func() { // a peer that takes no bytes must not hold up the end
		<-c.over
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
		_ = c.raw.SetWriteDeadline(c.now().Add(time.Second))
	})
	err := c.readLoop()
	c.do(func(time.Time) { c.fail(err) })
	wg.Wait()
	_ = c.raw.Close()
	return c.why()
}

func (c *conn) readLoop() error {
	if c.stream != nil {
		return c.readStream()
	}
	buf := make([]byte, datagramSize)
	var m message
	for {
		n, err := c.raw.Read(buf)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		c.do(func(now time.Time) { c.datagram(now, buf[:n], &m) })
		select {
		case <-c.over:
			return nil
		default:
		}
	}
}

// datagram takes one datagram; c.mu is held.
func (c *conn) datagram(now time.Time, b []byte, m *message) {
	in, out := c.udp.receive(now, b, m)
	if m.kind != reset || in != nothing {
		c.heard = now
	}
	switch in {
	case nothing:
		if out != nil {
			c.caller.arrived(now, out)
		}
	case asked: // we serve nothing
		if m.kind == confirmable {
			c.udp.refuse(m)
		}
	case answered:
		known := c.caller.answer(now, m)
		switch {
		case m.kind == confirmable && known:
			c.udp.acknowledge(m.id, m.token, nil)
		case m.kind == confirmable || m.kind == nonConfirmable && !known:
			c.udp.refuse(m)
		}
		c.caller.pump(now)
	case refused:
		_ = out
		c.fail(errReset)
	case pong:
		c.ponged()
		c.caller.pump(now)
	}
}

func (c *conn) readStream() error {
	r := bufio.NewReaderSize(c.raw, 4<<10)
	for {
		var m message
		if err := readTCP(r, &m, maxStreamIn); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		var bad error
		c.do(func(now time.Time) {
			c.heard = now
			bad = c.streamMessage(now, &m)
		})
		if bad != nil {
			return bad
		}
	}
}

// streamMessage takes one message of a stream; c.mu is held.
func (c *conn) streamMessage(now time.Time, m *message) error {
	switch {
	case m.code == signalCSM:
		c.settings(m)
		c.caller.pump(now)
	case m.code == signalPing:
		c.stream.put(&message{code: signalPong, token: m.token})
	case m.code == signalPong:
		c.ponged()
	case m.code == signalRelease || m.code == signalAbort:
		return fmt.Errorf("the server ends the connection (%s): %.200q", m.code, m.payload)
	case m.code.response():
		c.caller.answer(now, m)
	}
	return nil
}

// settings takes what the peer says of itself (RFC 8323 section 5.3).
func (c *conn) settings(m *message) {
	s := c.stream
	if v, ok := m.uint(optMaxMessageSize); ok {
		s.limit = int(min(max(v, csmDefault), maxStreamIn))
	}
	if _, ok := m.get(optBlockWise); ok {
		s.block = true
	}
	s.told = true
	c.caller.whole = s.limit - headRoom
	if s.block && s.limit > 1152+1024 {
		c.caller.szx = bert
	}
}

// writeLoop writes what is queued for a stream.
func (c *conn) writeLoop() {
	for {
		select {
		case <-c.over:
			return
		case <-c.stream.ready:
		}
		c.mu.Lock()
		queue := c.stream.queue
		c.stream.queue = nil
		c.mu.Unlock()
		for _, b := range queue {
			if err := writeChunks(c.raw, b); err != nil {
				c.do(func(time.Time) { c.fail(fmt.Errorf("send: %w", err)) })
				return
			}
		}
	}
}

// writeChunks fails when the peer takes no 8 KiB within 5 s.
func writeChunks(w net.Conn, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeChunk)
		if err := w.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// tickLoop lets time pass.
func (c *conn) tickLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.over:
			return
		case <-c.woken:
		case <-timer.C:
			c.do(c.tick)
		}
		c.mu.Lock()
		at := c.wake()
		c.mu.Unlock()
		timer.Reset(at.Sub(c.now()))
	}
}

// tick does what is due; c.mu is held.
func (c *conn) tick(now time.Time) {
	if c.udp != nil {
		for _, o := range c.udp.tick(now) {
			if err := c.caller.failed(now, o); err != nil {
				c.fail(err)
				return
			}
		}
	}
	if err := c.caller.tick(now); err != nil {
		c.fail(err)
		return
	}
	switch {
	case c.keepAlive <= 0:
	case c.ping != nil:
		if c.udp == nil && now.Sub(c.pinged) > c.keepAlive {
			c.fail(errors.New("no pong within keep_alive"))
		}
	case now.Sub(c.heard) >= c.keepAlive:
		c.sendPing(now, func(error) {})
	}
	c.caller.pump(now)
}

// wake returns when tick is to be called; c.mu is held.
func (c *conn) wake() time.Time {
	at := c.now().Add(time.Hour)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if c.udp != nil {
		sooner(c.udp.wake(c.now()))
	}
	sooner(c.caller.wake())
	if c.keepAlive > 0 {
		if c.ping == nil {
			sooner(c.heard.Add(c.keepAlive))
		} else if c.udp == nil {
			sooner(c.pinged.Add(c.keepAlive + 1))
		}
	}
	return at
}

package faultnet

import (
	"container/heap"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// maxDatagrams wait for a reader at one end; more are dropped, as a socket does.
const maxDatagrams = 4096

// Packets is a datagram link between two ends in memory. Both ends are
// [net.PacketConn]s, and connected [net.Conn]s as well. It starts no goroutines:
// what is sent lies at the other end until its time has come.
type Packets struct {
	A, B *PacketEnd

	mu      sync.Mutex // guards what follows and both ends
	shapers [2]*shaper
	dropped int
}

// NewPackets returns a link without faults. Up is from A to B.
func NewPackets(seed uint64) *Packets {
	p := &Packets{shapers: [2]*shaper{newShaper(seed, 0), newShaper(seed, 1)}}
	p.A = &PacketEnd{link: p, direction: Up, addr: packetAddr("a"), changed: make(chan struct{})}
	p.B = &PacketEnd{link: p, direction: Down, addr: packetAddr("b"), changed: make(chan struct{})}
	return p
}

// Set replaces the faults of a direction; invalid ones panic.
func (p *Packets) Set(d Direction, f Faults) {
	if err := f.Validate(); err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shapers[d].faults = f
	for _, e := range []*PacketEnd{p.A, p.B} {
		e.wake()
	}
}

// Rebind gives A another address: B sees what A sends from now on as from a new
// peer, as behind a NAT that has forgotten the old one.
func (p *Packets) Rebind(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.A.addr = packetAddr(name)
}

// Stats returns how many datagrams were sent in each direction, and how many were
// dropped because a queue was full.
func (p *Packets) Stats() (up, down, dropped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shapers[Up].packet, p.shapers[Down].packet, p.dropped
}

// transmit sends one datagram; p.mu is held.
func (p *Packets) transmit(d Direction, from net.Addr, to *PacketEnd, data []byte) {
	s := p.shapers[d]
	now := time.Now()
	if s.faults.Rate > 0 && s.backlog(now)+len(data) > s.faults.queue() {
		s.packet++
		p.dropped++
		return
	}
	x := s.send(now, len(data))
	if x.lost || s.faults.Blackhole {
		return
	}
	copies := 1
	if x.duplicate {
		copies = 2
	}
	for range copies {
		if len(to.arriving) >= maxDatagrams {
			p.dropped++
			return
		}
		dgram := &datagram{data: slices.Clone(data), from: from, at: x.at, order: s.packet}
		x.apply(dgram.data)
		heap.Push(&to.arriving, dgram)
	}
	to.wake()
}

type datagram struct {
	data  []byte
	from  net.Addr
	at    time.Time
	order int // in which they were sent
}

// arrivals is a heap by time.
type arrivals []*datagram

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	if a[i].at.Equal(a[j].at) {
		return a[i].order < a[j].order
	}
	return a[i].at.Before(a[j].at)
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(*datagram)) }
func (a *arrivals) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}

type packetAddr string

func (packetAddr) Network() string  { return "packets" }
func (a packetAddr) String() string { return string(a) }

// PacketEnd is one end of a datagram link.
type PacketEnd struct {
	link      *Packets
	direction Direction // of what it sends

	// Guarded by link.mu.
	addr     packetAddr
	arriving arrivals
	closed   bool
	deadline time.Time
	changed  chan struct{} // closed and replaced when any of it changes
}

// wake tells readers to look again; link.mu is held.
func (e *PacketEnd) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *PacketEnd) peer() *PacketEnd {
	if e.direction == Up {
		return e.link.B
	}
	return e.link.A
}

// ReadFrom implements [net.PacketConn]. A datagram that is longer than b is cut.
func (e *PacketEnd) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		d, wait, err := e.poll()
		if err != nil {
			return 0, nil, &net.OpError{Op: "read", Net: "packets", Source: e.LocalAddr(), Err: err}
		}
		if d != nil {
			return copy(b, d.data), d.from, nil
		}
		wait()
	}
}

// poll returns a datagram that has arrived, or how to wait until there may be one.
func (e *PacketEnd) poll() (d *datagram, wait func(), err error) {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	now := time.Now()
	switch {
	case e.closed:
		return nil, nil, net.ErrClosed
	case !e.deadline.IsZero() && !now.Before(e.deadline):
		return nil, nil, os.ErrDeadlineExceeded
	}
	until, stalled := e.deadline, e.link.shapers[1-e.direction].faults.Stall
	if len(e.arriving) > 0 && !stalled {
		next := e.arriving[0].at
		if !now.Before(next) {
			return heap.Pop(&e.arriving).(*datagram), nil, nil
		}
		if until.IsZero() || next.Before(until) {
			until = next
		}
	}
	changed := e.changed
	return nil, func() { waitUntil(changed, until) }, nil
}

func waitUntil(changed <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

// WriteTo implements [net.PacketConn]. There is one peer: the address is ignored.
func (e *PacketEnd) WriteTo(b []byte, _ net.Addr) (int, error) {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	if e.closed {
		return 0, &net.OpError{Op: "write", Net: "packets", Source: e.addr, Err: net.ErrClosed}
	}
	e.link.transmit(e.direction, e.addr, e.peer(), b)
	return len(b), nil
}

// Read implements [net.Conn].
func (e *PacketEnd) Read(b []byte) (int, error) {
	n, _, err := e.ReadFrom(b)
	return n, err
}

// Write implements [net.Conn].
func (e *PacketEnd) Write(b []byte) (int, error) { return e.WriteTo(b, nil) }

// Close ends this end. What it sent arrives nevertheless.
func (e *PacketEnd) Close() error {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	if !e.closed {
		e.closed = true
		e.wake()
	}
	return nil
}

// LocalAddr returns this end's address.
func (e *PacketEnd) LocalAddr() net.Addr {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	return e.addr
}

// RemoteAddr returns the other end's address.
func (e *PacketEnd) RemoteAddr() net.Addr { return e.peer().LocalAddr() }

// SetDeadline bounds reads; writes never wait.
func (e *PacketEnd) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

// SetReadDeadline bounds reads.
func (e *PacketEnd) SetReadDeadline(t time.Time) error {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	e.deadline = t
	e.wake()
	return nil
}

// SetWriteDeadline does nothing: writes never wait.
func (e *PacketEnd) SetWriteDeadline(time.Time) error { return nil }

// maxPeers bounds the clients of a [Relay]; more are ignored.
const maxPeers = 4096

// Relay is a UDP proxy through a bad network: each client that sends to it gets a
// socket of its own towards the server.
type Relay struct {
	conn   net.PacketConn
	server string

	mu      sync.Mutex // guards what follows
	shapers [2]*shaper
	peers   map[string]*relayPeer
	closed  bool
}

type relayPeer struct {
	addr   net.Addr
	server net.Conn
}

// NewRelay returns a relay without faults from conn, which it takes over, to the
// UDP address server.
func NewRelay(conn net.PacketConn, server string, seed uint64) *Relay {
	return &Relay{
		conn: conn, server: server, peers: map[string]*relayPeer{},
		shapers: [2]*shaper{newShaper(seed, 0), newShaper(seed, 1)},
	}
}

// Set replaces the faults of a direction; Up is towards the server. Invalid ones
// panic.
func (r *Relay) Set(d Direction, f Faults) {
	if err := f.Validate(); err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shapers[d].faults = f
}

// Rebind forgets all clients: the server sees what they send next as from new
// addresses, and what it sends to the old ones is lost.
func (r *Relay) Rebind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, p := range r.peers {
		_ = p.server.Close()
		delete(r.peers, key)
	}
}

// Run relays until ctx ends, and closes all sockets.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, r.close)
	defer func() { stop(); r.close(); wg.Wait() }()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.conn.ReadFrom(buf)
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		p, fresh := r.peer(ctx, from)
		if p == nil {
			continue
		}
		if fresh {
			wg.Go(func() { r.answers(ctx, &wg, p) })
		}
		r.forward(ctx, &wg, Up, buf[:n], func(b []byte) { _, _ = p.server.Write(b) })
	}
}

func (r *Relay) close() {
	_ = r.conn.Close()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.Rebind()
}

func (r *Relay) peer(ctx context.Context, from net.Addr) (p *relayPeer, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.peers[from.String()]; p != nil {
		return p, false
	}
	if r.closed || len(r.peers) >= maxPeers {
		return nil, false
	}
	c, err := new(net.Dialer).DialContext(ctx, "udp", r.server)
	if err != nil {
		return nil, false
	}
	p = &relayPeer{from, c}
	r.peers[from.String()] = p
	return p, true
}

func (r *Relay) answers(ctx context.Context, wg *sync.WaitGroup, p *relayPeer) {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.server.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // an ICMP error only means that nobody listens yet
			r.forward(ctx, wg, Down, buf[:n], func(b []byte) { _, _ = r.conn.WriteTo(b, p.addr) })
		}
	}
}

// forward hands a datagram on when its time has come.
func (r *Relay) forward(ctx context.Context, wg *sync.WaitGroup, d Direction, data []byte, deliver func([]byte)) {
	r.mu.Lock()
	s := r.shapers[d]
	now := time.Now()
	full := s.faults.Rate > 0 && s.backlog(now)+len(data) > s.faults.queue()
	x := s.send(now, len(data))
	gone := full || x.lost || s.faults.Blackhole || s.faults.Stall
	r.mu.Unlock()
	if gone {
		return
	}
	own := slices.Clone(data)
	x.apply(own)
	send := func() {
		deliver(own)
		if x.duplicate {
			deliver(own)
		}
	}
	wait := time.Until(x.at)
	if wait <= 0 {
		send()
		return
	}
	wg.Go(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			send()
		case <-ctx.Done():
		}
	})
}

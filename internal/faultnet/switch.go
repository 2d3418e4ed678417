package faultnet

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
)

// ErrCut is what dialing, reading and writing report while the link is cut.
var ErrCut = errors.New("simulated link is cut")

// DialFunc opens a connection, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Switch is a dialer with a switch in the cable. Create one with [NewSwitch]; it
// starts restored.
type Switch struct {
	dial DialFunc

	mu    sync.Mutex // guards what follows
	cut   bool
	conns map[*conn]struct{}
	// dials cancels dials under way when the link is cut.
	dials map[*context.CancelFunc]struct{}
	cuts  int
}

// NewSwitch returns a Switch that dials with dial, or with a plain [net.Dialer]
// if dial is nil.
func NewSwitch(dial DialFunc) *Switch {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &Switch{
		dial:  dial,
		conns: map[*conn]struct{}{},
		dials: map[*context.CancelFunc]struct{}{},
	}
}

// DialContext opens a connection that ends when the link is cut. While it is
// cut, DialContext fails at once with an error that wraps [ErrCut].
func (s *Switch) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.begin(&cancel) {
		return nil, dialError(network)
	}
	inner, err := s.dial(ctx, network, addr)
	return s.finish(&cancel, network, inner, err)
}

func (s *Switch) begin(cancel *context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	s.dials[cancel] = struct{}{}
	return true
}

func (s *Switch) finish(cancel *context.CancelFunc, network string, inner net.Conn, err error) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, uncut := s.dials[cancel]
	delete(s.dials, cancel)
	switch {
	case !uncut:
		if inner != nil {
			_ = inner.Close()
		}
		return nil, dialError(network)
	case err != nil:
		return nil, err
	}
	c := &conn{Conn: inner, owner: s}
	s.conns[c] = struct{}{}
	return c, nil
}

func dialError(network string) error {
	return &net.OpError{Op: "dial", Net: network, Err: ErrCut}
}

// Cut ends every connection and refuses new ones until [Switch.Restore].
// Readers and writers that wait are woken. The far end sees the connection
// reset, as far as its network can tell it.
func (s *Switch) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return
	}
	s.cut = true
	s.cuts++
	for cancel := range s.dials {
		(*cancel)()
	}
	clear(s.dials)
	for c := range s.conns {
		c.sever()
	}
	clear(s.conns)
}

// Restore lets connections through again. Those that were cut stay dead.
func (s *Switch) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = false
}

// Up reports whether the link is restored.
func (s *Switch) Up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.cut
}

// Stats tells how many connections are open and how often the link was cut.
func (s *Switch) Stats() (open, cuts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.cuts
}

func (s *Switch) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// conn is a connection through a Switch.
type conn struct {
	net.Conn
	owner *Switch

	mu  sync.Mutex // guards cut
	cut bool
}

// sever ends the connection the hard way.
func (c *conn) sever() {
	c.mu.Lock()
	c.cut = true
	c.mu.Unlock()
	if t, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0) // reset instead of an orderly end
	}
	_ = c.Conn.Close()
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.explain("read", err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.explain("write", err)
}

// explain replaces the error of a connection that was cut.
func (c *conn) explain(op string, err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cut {
		return err
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: ErrCut}
}

func (c *conn) Close() error {
	c.owner.forget(c)
	return c.Conn.Close()
}

// SyscallConn gives access to the socket, for those who set its options.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

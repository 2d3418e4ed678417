package coap

import (
	"bufio"
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a listener.
const (
	maxPeers       = 10_000          // clients at once
	idlePeer       = 5 * time.Minute // after which a silent client without a session is forgotten
	sweepEvery     = 30 * time.Second
	handshakeLimit = 30 * time.Second
	maxHandshakes  = 256 // at once; what comes on top is dropped, and comes again
)

// serverCounters is what happened at the listeners.
type serverCounters struct{ peers, handshakes, failedHandshakes, dropped atomic.Int64 }

// Listener is one socket that a [Receiver] serves.
type Listener struct {
	name  string
	serve func(ctx context.Context, s *server) error
}

// String names the address.
func (l Listener) String() string { return l.name }

// newRand returns a source that nobody outside can foresee.
func newRand() *rand.Rand {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	return rand.New(rand.NewChaCha8(seed))
}

// ServeUDP serves plain CoAP on a socket, which it takes over. Nothing is secret, and
// nobody proves who he is.
func ServeUDP(pc net.PacketConn) Listener {
	return Listener{"coap://" + pc.LocalAddr().String(), func(ctx context.Context, s *server) error {
		u := &udpListener{pc: pc, srv: s, peers: map[string]*peer{}}
		return u.run(ctx)
	}}
}

// udpListener tells clients apart by their addresses.
type udpListener struct {
	pc    net.PacketConn
	srv   *server
	peers map[string]*peer // of the read loop alone
	swept time.Time
}

func (u *udpListener) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = u.pc.Close() })
	defer stop()
	defer func() {
		for _, p := range u.peers {
			p.close()
		}
		_ = u.pc.Close()
	}()
	buf := make([]byte, datagramSize)
	for {
		n, from, err := u.pc.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("receive datagrams: %w", err)
		}
		if p := u.peer(from); p != nil {
			p.datagram(buf[:n])
		}
	}
}

func (u *udpListener) peer(from net.Addr) *peer {
	now := time.Now()
	if now.Sub(u.swept) > sweepEvery {
		u.sweep(now)
	}
	key := from.String()
	if p := u.peers[key]; p != nil {
		return p
	}
	if len(u.peers) >= maxPeers {
		u.srv.stats.dropped.Add(1)
		return nil
	}
	p := newPeer(u.srv, key, newReliable(newRand()), nil, func(b []byte) error {
		_, err := u.pc.WriteTo(b, from)
		return err
	})
	u.peers[key] = p
	u.srv.stats.peers.Add(1)
	return p
}

func (u *udpListener) sweep(now time.Time) {
	u.swept = now
	for key, p := range u.peers {
		if now.Sub(p.lastHeard()) > idlePeer {
			p.close()
			u.srv.gone(p)
			u.srv.stats.peers.Add(-1)
			delete(u.peers, key)
		}
	}
}

// ServeTCP serves CoAP over streams (RFC 8323) on a socket, which it takes over. With a
// configuration the streams are secured.
func ServeTCP(ln net.Listener, secure *tls.Config) Listener {
	name := "coap+tcp://"
	if secure != nil {
		name = "coaps+tcp://"
	}
	return Listener{name + ln.Addr().String(), func(ctx context.Context, s *server) error {
		t := &tcpListener{ln: ln, srv: s, secure: secure}
		return t.run(ctx)
	}}
}

type tcpListener struct {
	ln     net.Listener
	srv    *server
	secure *tls.Config
	conns  atomic.Int64
}

func (t *tcpListener) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = t.ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		raw, err := t.ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			select { // out of descriptors, perhaps
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if t.conns.Add(1) > maxPeers {
			t.conns.Add(-1)
			t.srv.stats.dropped.Add(1)
			_ = raw.Close()
			continue
		}
		wg.Go(func() {
			defer t.conns.Add(-1)
			t.serve(ctx, raw)
		})
	}
}

func (t *tcpListener) serve(ctx context.Context, raw net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	defer func() { _ = raw.Close() }()
	identity := ""
	if t.secure != nil {
		s := tls.Server(raw, t.secure)
		limit, done := context.WithTimeout(ctx, handshakeLimit)
		err := s.HandshakeContext(limit)
		done()
		t.srv.stats.handshakes.Add(1)
		if err != nil {
			t.srv.stats.failedHandshakes.Add(1)
			return
		}
		if certs := s.ConnectionState().PeerCertificates; len(certs) > 0 {
			identity = certs[0].Subject.CommonName
		}
		raw = s
	}
	serveStream(ctx, cancel, t.srv, raw, identity)
}

// serveStream serves one client.
func serveStream(ctx context.Context, cancel context.CancelFunc, s *server, raw net.Conn, identity string) {
	out := &streamOut{ready: make(chan struct{}, 1), limit: csmDefault}
	out.put(csm())
	p := newPeer(s, raw.RemoteAddr().String(), nil, out, nil)
	p.identity = identity
	s.stats.peers.Add(1)
	defer s.stats.peers.Add(-1)
	defer s.gone(p)
	defer p.close()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		p.writeLoop(ctx, raw)
	})
	p.readLoop(raw)
	cancel()
	wg.Wait()
}

func (p *peer) writeLoop(ctx context.Context, raw net.Conn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.stream.ready:
		}
		p.mu.Lock()
		queue := p.stream.queue
		p.stream.queue = nil
		p.mu.Unlock()
		for _, b := range queue {
			if err := writeChunks(raw, b); err != nil {
				return
			}
		}
	}
}

// readLoop takes messages until the stream ends or makes no sense.
func (p *peer) readLoop(raw net.Conn) {
	r := bufio.NewReaderSize(raw, 4<<10)
	for {
		var m message
		if err := readTCP(r, &m, maxStreamIn); err != nil {
			return
		}
		end := false
		p.do(func(now time.Time) (after func()) {
			p.heard = now
			switch {
			case m.code.request():
				return p.request(now, &m)
			case m.code == signalPing:
				p.stream.put(&message{code: signalPong, token: m.token})
			case m.code == signalRelease || m.code == signalAbort:
				end = true
			}
			return nil
		})
		if end {
			return
		}
	}
}

package coap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v5/deadline"

	"github.com/edgeagent/edgeagent"
)

const (
	cidSize     = 8
	demuxQueue  = 64 // datagrams of one client that wait; more are dropped
	idleSession = time.Hour
	staleHello  = 30 * time.Second // a new handshake from an old address is let in after this silence

	recordCID       = 25 // content type of a record with a connection id (RFC 9146)
	recordHandshake = 22
	clientHello     = 1
)

// DTLSConfig is how a listener for datagrams is secured.
type DTLSConfig struct {
	// PSK returns the pre-shared key of an identity, nil if there is none. It makes the
	// listener take pre-shared keys.
	PSK func(identity string) []byte
	// Certificates make the listener take clients with certificates, which ClientCAs
	// must have signed; without ClientCAs clients need none.
	Certificates []tls.Certificate
	ClientCAs    *x509.CertPool
	// NoConnectionID leaves RFC 9146 out: a client whose NAT gives it a new port must
	// shake hands anew.
	NoConnectionID bool
}

// Cipher suites, most wanted first. CCM_8 is what RFC 7252 asks every CoAP server for.
func cipherSuites(psk, certificates bool) (ids []dtls.CipherSuiteID) {
	if psk {
		ids = append(ids, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM, dtls.TLS_PSK_WITH_AES_128_CCM_8)
	}
	if certificates {
		ids = append(ids, dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8)
	}
	return ids
}

// ServeDTLS serves CoAP over DTLS 1.2 on a socket, which it takes over.
func ServeDTLS(pc net.PacketConn, cfg DTLSConfig) (Listener, error) {
	if cfg.PSK == nil && len(cfg.Certificates) == 0 {
		return Listener{}, edgeagent.WithHint(errors.New("dtls: neither pre-shared keys nor a certificate"),
			"give the listener keys, or a certificate and its key")
	}
	return Listener{"coaps://" + pc.LocalAddr().String(), func(ctx context.Context, s *server) error {
		d := &demux{pc: pc, cfg: cfg, srv: s, byAddr: map[string]*lane{}, byCID: map[string]*lane{}, shaking: make(chan struct{}, maxHandshakes)}
		return d.run(ctx)
	}}, nil
}

// demux gives each client a packet connection of its own, on which DTLS is spoken. A
// client is known by its connection id, else by its address.
type demux struct {
	pc      net.PacketConn
	cfg     DTLSConfig
	srv     *server
	shaking chan struct{} // one word for each handshake under way

	mu     sync.Mutex // guards what follows
	byAddr map[string]*lane
	byCID  map[string]*lane
}

func (d *demux) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = d.pc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait() // they say goodbye through the socket
		_ = d.pc.Close()
	}()
	buf := make([]byte, 16<<10)
	for {
		n, from, err := d.pc.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("receive datagrams: %w", err)
		}
		l, fresh := d.find(buf[:n], from)
		if l == nil {
			d.srv.stats.dropped.Add(1)
			continue
		}
		l.put(buf[:n], from)
		if fresh {
			wg.Go(func() { d.serve(ctx, l) })
		}
	}
}

// find returns whom a datagram is for.
func (d *demux) find(b []byte, from net.Addr) (l *lane, fresh bool) {
	key := from.String()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(b) > 11+cidSize && b[0] == recordCID {
		return d.byCID[string(b[11:11+cidSize])], false
	}
	hello := len(b) > 13 && b[0] == recordHandshake && binary.BigEndian.Uint16(b[3:]) == 0 && b[13] == clientHello
	if l = d.byAddr[key]; l != nil && (!hello || !l.stale()) {
		return l, false
	}
	if !hello || len(d.byAddr) >= maxPeers {
		return nil, false
	}
	select {
	case d.shaking <- struct{}{}:
	default:
		return nil, false
	}
	l = &lane{demux: d, key: key, addr: from, in: make(chan packet, demuxQueue), read: deadline.New(), done: make(chan struct{}), heard: time.Now()}
	d.byAddr[key] = l
	return l, true
}

// serve shakes hands with a client and serves it.
func (d *demux) serve(ctx context.Context, l *lane) {
	defer l.forget()
	c, err := d.handshake(ctx, l)
	<-d.shaking
	d.srv.stats.handshakes.Add(1)
	if err != nil {
		d.srv.stats.failedHandshakes.Add(1)
		return
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	p := newPeer(d.srv, l.key, newReliable(newRand()), nil, func(b []byte) error {
		_, err := c.Write(b)
		return err
	})
	p.identity = identityOf(c)
	d.srv.stats.peers.Add(1)
	defer d.srv.stats.peers.Add(-1)
	defer d.srv.gone(p)
	defer p.close()
	l.mu.Lock()
	l.up = true
	l.mu.Unlock()
	buf := make([]byte, datagramSize)
	for {
		_ = c.SetReadDeadline(time.Now().Add(idleSession))
		if ctx.Err() != nil {
			return
		}
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		p.datagram(buf[:n])
	}
}

func (d *demux) handshake(ctx context.Context, l *lane) (*dtls.Conn, error) {
	o := []dtls.ServerOption{
		dtls.WithCipherSuites(cipherSuites(d.cfg.PSK != nil, len(d.cfg.Certificates) > 0)...),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
	}
	if d.cfg.PSK != nil {
		o = append(o, dtls.WithPSK(func(identity []byte) ([]byte, error) {
			if key := d.cfg.PSK(string(identity)); len(key) > 0 {
				return key, nil
			}
			return nil, errors.New("unknown identity")
		}))
	}
	if len(d.cfg.Certificates) > 0 {
		o = append(o, dtls.WithCertificates(d.cfg.Certificates...))
	}
	if d.cfg.ClientCAs != nil {
		o = append(o, dtls.WithClientCAs(d.cfg.ClientCAs), dtls.WithClientAuth(dtls.RequireAndVerifyClientCert))
	}
	if !d.cfg.NoConnectionID {
		o = append(o, dtls.WithConnectionIDGenerator(l.newCID))
	}
	c, err := dtls.ServerWithOptions(l, l.addr, o...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// identityOf returns what a client has proved to be.
func identityOf(c *dtls.Conn) string {
	s, ok := c.ConnectionState()
	if !ok {
		return ""
	}
	if len(s.PeerCertificates) > 0 {
		cert, err := x509.ParseCertificate(s.PeerCertificates[0])
		if err != nil {
			return ""
		}
		return cert.Subject.CommonName
	}
	return string(s.IdentityHint)
}

// packet is a datagram of a client.
type packet struct {
	data []byte
	from net.Addr
}

// lane is one client's packet connection.
type lane struct {
	demux *demux
	key   string
	addr  net.Addr // of the first datagram
	in    chan packet
	read  *deadline.Deadline
	done  chan struct{}

	mu    sync.Mutex // guards what follows
	cid   string
	heard time.Time
	up    bool
	once  sync.Once
}

var _ net.PacketConn = (*lane)(nil)

func (l *lane) put(b []byte, from net.Addr) {
	l.mu.Lock()
	l.heard = time.Now()
	l.mu.Unlock()
	select {
	case l.in <- packet{append([]byte(nil), b...), from}:
	default:
		l.demux.srv.stats.dropped.Add(1)
	}
}

// stale reports whether the client was silent for so long that a new handshake from
// its address is more likely than a forged one.
func (l *lane) stale() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up && time.Since(l.heard) > staleHello
}

// newCID makes the id that the client is to put in its records.
func (l *lane) newCID() []byte {
	id := binary.BigEndian.AppendUint64(nil, newRand().Uint64())
	l.mu.Lock()
	old := l.cid
	l.cid = string(id)
	l.mu.Unlock()
	l.demux.mu.Lock()
	defer l.demux.mu.Unlock()
	delete(l.demux.byCID, old)
	l.demux.byCID[string(id)] = l
	return id
}

// forget takes the client out of the demultiplexer.
func (l *lane) forget() {
	_ = l.Close()
	d := l.demux
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byAddr[l.key] == l {
		delete(d.byAddr, l.key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.byCID[l.cid] == l {
		delete(d.byCID, l.cid)
	}
}

// ReadFrom implements [net.PacketConn].
func (l *lane) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-l.read.Done():
		return 0, nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case p := <-l.in:
		return copy(b, p.data), p.from, nil
	case <-l.read.Done():
		return 0, nil, os.ErrDeadlineExceeded
	case <-l.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements [net.PacketConn].
func (l *lane) WriteTo(b []byte, to net.Addr) (int, error) { return l.demux.pc.WriteTo(b, to) }

// Close implements [net.PacketConn]; the socket stays open.
func (l *lane) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// LocalAddr implements [net.PacketConn].
func (l *lane) LocalAddr() net.Addr { return l.demux.pc.LocalAddr() }

// SetDeadline implements [net.PacketConn].
func (l *lane) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }

// SetReadDeadline implements [net.PacketConn].
func (l *lane) SetReadDeadline(t time.Time) error {
	l.read.Set(t)
	return nil
}

// SetWriteDeadline implements [net.PacketConn]; datagrams do not wait.
func (l *lane) SetWriteDeadline(time.Time) error { return nil }

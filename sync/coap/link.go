package coap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

const (
	connectTimeout = 15 * time.Second // dial, handshake and the first answer, each
	plainKeepAlive = 25 * time.Second // shorter than the bindings of most NATs
	cidKeepAlive   = 5 * time.Minute  // with a connection id no binding needs to be kept
)

// DialFunc opens a connection, as [net.Dialer.DialContext] does; network is "udp" or
// "tcp".
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// link is where to connect, and as whom.
type link struct {
	url       *url.URL
	identity  string // with key: of the pre-shared key
	key       edgeagent.Secret
	keepAlive time.Duration // 0: the default of the kind of link
	nstart    int           // of datagrams; 0: 1
	tls       uplink.TLSConfig
	dial      DialFunc
	dir       string
	now       func() time.Time // for certificates
	log       *slog.Logger
	trace     *Trace
}

// defaultPort returns the port of a scheme (RFC 7252 section 6, RFC 8323 section 8), ""
// for one that is not CoAP's.
func defaultPort(scheme string) string {
	switch scheme {
	case "coap", "coap+tcp":
		return "5683"
	case "coaps", "coaps+tcp":
		return "5684"
	}
	return ""
}

func stream(scheme string) bool { return strings.HasSuffix(scheme, "+tcp") }

const urlHint = "write destinations[].links[].url as coap://host, coaps://host, coap+tcp://host or coaps+tcp://host"

// parseURL reads scheme://host[:port][/path].
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("parse link url: %w", err)
	}
	port := defaultPort(u.Scheme)
	switch {
	case port == "":
		return nil, edgeagent.WithHint(fmt.Errorf("link url %s: want scheme coap, coaps, coap+tcp or coaps+tcp", u.Redacted()), urlHint)
	case u.Hostname() == "":
		return nil, fmt.Errorf("link url %s has no host", u.Redacted())
	case u.User != nil:
		return nil, edgeagent.WithHint(fmt.Errorf("link url %s holds a login", u.Redacted()),
			"use destinations[].links[].username and password")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("link url %s holds more than host, port and path", u.Redacted())
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return u, nil
}

// newLink checks what can be checked without a network.
func newLink(cfg uplink.LinkConfig, dial DialFunc, log *slog.Logger) (link, error) {
	u, err := parseURL(cfg.URL)
	if err != nil {
		return link{}, err
	}
	if err := cfg.TLS.Validate(); err != nil {
		return link{}, err
	}
	switch {
	case cfg.Proxy.URL != "":
		return link{}, edgeagent.WithHint(errors.New("no proxy speaks CoAP"), "use mqtts:// or wss:// through a proxy")
	case (cfg.Username != "" || !cfg.Password.IsZero()) && u.Scheme != "coaps":
		return link{}, edgeagent.WithHint(fmt.Errorf("%s has no login", u.Scheme),
			"username and password are a pre-shared key, for coaps:// alone; use tls.cert and tls.key with coaps+tcp://")
	case (cfg.Username == "") != cfg.Password.IsZero():
		return link{}, edgeagent.WithHint(errors.New("half a pre-shared key"),
			"set destinations[].links[].username (the identity) and password (the key), or neither")
	}
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return link{
		url: u, identity: cfg.Username, key: cfg.Password, keepAlive: cfg.KeepAlive, nstart: cfg.NStart, tls: cfg.TLS,
		dial: dial, now: time.Now, log: log,
	}, nil
}

// String names the link without secrets.
func (l *link) String() string { return l.url.Scheme + "://" + l.url.Host }

// connect opens the connection; run is to be called on it.
func (l *link) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, fmt.Errorf("no answer within %v", connectTimeout))
	defer cancel()
	network := "udp"
	if stream(l.url.Scheme) {
		network = "tcp"
	}
	raw, err := l.dial(ctx, network, l.url.Host)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", l, err)
	}
	c, err := l.wrap(ctx, raw)
	if err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			late := context.Cause(ctx)
			if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
				late = edgeagent.WithHint(late, h.Hint())
			}
			err = late
		}
		return nil, fmt.Errorf("connect to %s: %w", l, err)
	}
	return c, nil
}

func (l *link) wrap(ctx context.Context, raw net.Conn) (*conn, error) {
	switch l.url.Scheme {
	case "coaps":
		return l.dtls(ctx, raw)
	case "coap":
		return l.datagrams(raw, plainKeepAlive), nil
	case "coaps+tcp":
		cfg, err := l.tls.Client(l.url.Hostname(), l.dir, l.now)
		if err != nil {
			return nil, err
		}
		if len(cfg.NextProtos) == 0 {
			cfg.NextProtos = []string{"coap"} // RFC 8323 section 8.2
		}
		s := tls.Client(raw, cfg)
		if err := s.HandshakeContext(ctx); err != nil {
			return nil, explainTLS(err)
		}
		state := s.ConnectionState()
		l.trace.secured(tls.VersionName(state.Version), state.PeerCertificates)
		raw = &streamCloser{s, raw}
	}
	return newStreamConn(raw, newRand(), or(l.keepAlive, plainKeepAlive)), nil
}

// streamCloser closes the socket below: TLS would wait to say goodbye to a peer that
// takes no bytes.
type streamCloser struct {
	net.Conn
	below net.Conn
}

func (c *streamCloser) Close() error { return c.below.Close() }

func or(v, def time.Duration) time.Duration {
	if v > 0 {
		return v
	}
	return def
}

// dtls shakes hands over datagrams.
func (l *link) dtls(ctx context.Context, raw net.Conn) (*conn, error) {
	o, err := l.dtlsOptions()
	if err != nil {
		return nil, err
	}
	below := &packetConn{Conn: raw}
	c, err := dtls.ClientWithOptions(below, raw.RemoteAddr(), o...)
	if err != nil {
		return nil, err
	}
	if err := c.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, explainDTLS(err, l.identity != "")
	}
	l.trace.secured("DTLS 1.2", chainOf(c))
	keepAlive := plainKeepAlive
	if below.cid.Load() {
		keepAlive = cidKeepAlive
	}
	return l.datagrams(c, keepAlive), nil
}

// datagrams returns the connection over a socket.
func (l *link) datagrams(raw net.Conn, keepAlive time.Duration) *conn {
	c := newDatagramConn(raw, newRand(), or(l.keepAlive, keepAlive))
	c.udp.nstart = max(l.nstart, 1)
	c.udp.open = c.udp.nstart
	return c
}

// chainOf returns the certificates that a server has shown.
func chainOf(c *dtls.Conn) (chain []*x509.Certificate) {
	state, _ := c.ConnectionState()
	for _, raw := range state.PeerCertificates {
		if cert, err := x509.ParseCertificate(raw); err == nil {
			chain = append(chain, cert)
		}
	}
	return chain
}

func (l *link) dtlsOptions() ([]dtls.ClientOption, error) {
	psk := l.identity != ""
	o := []dtls.ClientOption{
		dtls.WithCipherSuites(cipherSuites(psk, !psk)...),
		dtls.WithExtendedMasterSecret(dtls.RequestExtendedMasterSecret),
		dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()),
	}
	if psk {
		return append(o,
			dtls.WithPSK(func([]byte) ([]byte, error) { return []byte(l.key.Reveal()), nil }),
			dtls.WithPSKIdentityHint([]byte(l.identity))), nil
	}
	cfg, err := l.tls.Client(l.url.Hostname(), l.dir, l.now)
	if err != nil {
		return nil, err
	}
	// The library holds certificates against a clock that it does not let us set, so
	// the chain is verified here.
	o = append(o, dtls.WithInsecureSkipVerify(true), dtls.WithServerName(cfg.ServerName),
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error { return verifyChain(cfg, raw) }))
	if len(cfg.Certificates) > 0 {
		o = append(o, dtls.WithCertificates(cfg.Certificates...))
	}
	return o, nil
}

// verifyChain holds a server's certificates against the authorities, its name, the
// time and the pins, as crypto/tls does.
func verifyChain(cfg *tls.Config, raw [][]byte) error {
	if len(raw) == 0 {
		return errors.New("the server shows no certificate")
	}
	certs := make([]*x509.Certificate, len(raw))
	for i, b := range raw {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return fmt.Errorf("parse the server's certificate: %w", err)
		}
		certs[i] = c
	}
	o := x509.VerifyOptions{Roots: cfg.RootCAs, CurrentTime: cfg.Time(), DNSName: cfg.ServerName, Intermediates: x509.NewCertPool()}
	for _, c := range certs[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := certs[0].Verify(o)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	if cfg.VerifyConnection == nil {
		return nil
	}
	return cfg.VerifyConnection(tls.ConnectionState{PeerCertificates: certs, VerifiedChains: chains})
}

// packetConn is a connected socket as the DTLS library wants it.
type packetConn struct {
	net.Conn
	cid atomic.Bool // records bear the connection id that the server gave
}

func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := p.Read(b)
	return n, p.RemoteAddr(), err
}

func (p *packetConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if len(b) > 0 && b[0] == recordCID {
		p.cid.Store(true)
	}
	return p.Write(b)
}

// explainTLS adds what to do about a handshake that failed.
func explainTLS(err error) error {
	err = fmt.Errorf("secure the connection: %w", err)
	if _, ok := errors.AsType[*uplink.PinError](err); ok {
		return err // has its own hint
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return edgeagent.WithHint(err, "check destinations[].links[].tls.ca and server_name, and the clock: edgeagent status")
	}
	return edgeagent.WithHint(err, "check destinations[].links[].tls; servers that ask for a certificate need cert and key")
}

// explainDTLS tells a server that says no from one that cannot be reached.
func explainDTLS(err error, psk bool) error {
	var alert interface{ IsFatalOrCloseNotify() bool } // the library's type has no name
	const hint = "check destinations[].links[].username (the identity) and password (the key)"
	switch {
	case psk && errors.As(err, &alert):
		return uplink.Refused("it does not take the pre-shared key", hint)
	case psk: // a server with another key cannot read what we say, and keeps silent
		return edgeagent.WithHint(fmt.Errorf("shake hands: %w", err), hint)
	case errors.As(err, &alert):
		return uplink.Refused("it does not take the certificate, or there is none", "check destinations[].links[].tls.cert and key")
	}
	return explainTLS(err)
}

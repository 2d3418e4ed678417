package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/proxy"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// open makes the connection that MQTT is spoken on: TCP, by way of a proxy if there
// is one, TLS on it, and WebSocket on that, as the URL says. ctx bounds all of it.
func (l *link) open(ctx context.Context) (net.Conn, error) {
	raw, err := l.reach(ctx)
	if err != nil {
		return nil, err
	}
	l.trace.reached()
	setUserTimeout(raw, l.keepAlive*3/2)
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	c, err := l.wrap(ctx, raw)
	if !stop() && err == nil { // ctx ended in the last moment, and raw is closed
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// reach connects to the server's port.
func (l *link) reach(ctx context.Context) (net.Conn, error) {
	scheme, via := l.proxy.Address()
	switch scheme {
	case "http":
		return l.throughHTTP(ctx, via)
	case "socks5":
		return l.throughSOCKS(ctx, via)
	}
	return l.dial(ctx, "tcp", l.url.Host)
}

func (l *link) throughSOCKS(ctx context.Context, via string) (net.Conn, error) {
	var auth *proxy.Auth
	if l.proxy.Username != "" {
		auth = &proxy.Auth{User: l.proxy.Username, Password: l.proxy.Password.Reveal()}
	}
	d, err := proxy.SOCKS5("tcp", via, auth, contextDialer(l.dial))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", via, err)
	}
	c, err := d.(proxy.ContextDialer).DialContext(ctx, "tcp", l.url.Host)
	if err != nil {
		return nil, fmt.Errorf("through the proxy %s: %w", via, err)
	}
	return c, nil
}

// contextDialer is a DialFunc as the proxy library wants it.
type contextDialer DialFunc

func (d contextDialer) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

func (d contextDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d(ctx, network, addr)
}

// throughHTTP asks a web proxy for a tunnel (RFC 9110 section 9.3.6).
func (l *link) throughHTTP(ctx context.Context, via string) (net.Conn, error) {
	c, err := l.dial(ctx, "tcp", via)
	if err != nil {
		return nil, fmt.Errorf("reach the proxy %s: %w", via, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	tunnel, err := l.connectTunnel(c)
	if err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("through the proxy %s: %w", via, err)
	}
	return tunnel, nil
}

// connectTunnel returns c behind the proxy's answer.
func (l *link) connectTunnel(c net.Conn) (net.Conn, error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: l.url.Host}, Host: l.url.Host, Header: http.Header{}}
	if l.proxy.Username != "" {
		login := l.proxy.Username + ":" + l.proxy.Password.Reveal()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login)))
	}
	if err := req.Write(c); err != nil {
		return nil, fmt.Errorf("ask for a tunnel: %w", err)
	}
	in := bufio.NewReader(io.LimitReader(c, 64<<10)) // of headers
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return nil, uplink.Refused("the proxy wants a login", "check destinations[].links[].proxy.username and password")
	case resp.StatusCode != http.StatusOK:
		return nil, edgeagent.WithHint(fmt.Errorf("the proxy answers %q", resp.Status),
			"let the proxy allow CONNECT to the port of destinations[].links[].url")
	case in.Buffered() > 0:
		return nil, errors.New("the proxy sent something before the server could")
	}
	return c, nil
}

// wrap puts TLS and WebSocket on raw.
func (l *link) wrap(ctx context.Context, raw net.Conn) (net.Conn, error) {
	c := raw
	if secure(l.url.Scheme) {
		cfg, err := l.tls.Client(l.url.Hostname(), l.dir, l.now)
		if err != nil {
			return nil, err
		}
		secured := tls.Client(raw, cfg)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, explainTLS(err)
		}
		l.trace.secured(secured.ConnectionState())
		c = &closer{secured, raw}
	}
	if !webSocket(l.url.Scheme) {
		return c, nil
	}
	upgraded, err := l.upgrade(ctx, c)
	if err != nil {
		return nil, err
	}
	l.trace.upgraded()
	return upgraded, nil
}

// explainTLS adds what to do about a handshake that failed.
func explainTLS(err error) error {
	err = fmt.Errorf("secure the connection: %w", err)
	var unknown *tls.CertificateVerificationError
	var pin *uplink.PinError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &pin):
		return err // has its own hint
	case errors.As(err, &unknown):
		return edgeagent.WithHint(err, "check destinations[].links[].tls.ca and server_name, and the clock: edgeagent status")
	case errors.As(err, &record):
		return edgeagent.WithHint(err, "the port does not speak TLS: use mqtt:// or the broker's TLS port")
	}
	return edgeagent.WithHint(err, "servers without TLS 1.3 need destinations[].links[].tls.min_version: \"1.2\"; those that ask for a certificate cert and key")
}

// closer closes the socket below: TLS would wait up to 5 s to say goodbye to a peer
// that takes no bytes, and MQTT has said it already.
type closer struct {
	net.Conn
	below net.Conn
}

func (c *closer) Close() error { return c.below.Close() }

// upgrade makes a WebSocket of a connection (MQTT 3.1.1 section 6).
func (l *link) upgrade(ctx context.Context, c net.Conn) (net.Conn, error) {
	given := func(context.Context, string, string) (net.Conn, error) { return c, nil }
	d := websocket.Dialer{NetDialContext: given, NetDialTLSContext: given, Subprotocols: []string{"mqtt"}}
	ws, resp, err := d.DialContext(ctx, l.url.String(), nil)
	if resp != nil {
		_ = resp.Body.Close() // of an upgrade it is empty, of a refusal nobody reads it
	}
	if err != nil {
		if resp != nil {
			err = edgeagent.WithHint(fmt.Errorf("%w: the server answers %q", err, resp.Status),
				"check the path in destinations[].links[].url, often /mqtt")
		}
		return nil, fmt.Errorf("open a WebSocket: %w", err)
	}
	ws.SetReadLimit(maxPacket + 16)
	return &webSocketConn{Conn: c, ws: ws}, nil
}

// webSocketConn is a stream in binary messages; how it is cut into them means
// nothing.
type webSocketConn struct {
	net.Conn // the connection below, for addresses and Close
	ws       *websocket.Conn
	message  io.Reader // what is left of the message that is being read
}

func (c *webSocketConn) Read(b []byte) (int, error) {
	for {
		if c.message == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("the server sent text over the WebSocket")
			}
			c.message = r
		}
		n, err := c.message.Read(b)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *webSocketConn) Write(b []byte) (int, error) {
	if err := c.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *webSocketConn) SetDeadline(t time.Time) error {
	return errors.Join(c.ws.SetReadDeadline(t), c.ws.SetWriteDeadline(t))
}
func (c *webSocketConn) SetReadDeadline(t time.Time) error  { return c.ws.SetReadDeadline(t) }
func (c *webSocketConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }

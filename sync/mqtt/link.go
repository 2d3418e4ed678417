package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

const (
	defaultKeepAlive = 30 * time.Second
	minPingTimeout   = 4500 * time.Millisecond // a dead link is found within 15 s at a keep-alive of 10 s
	writeTimeout     = 5 * time.Second
	connectTimeout   = 15 * time.Second // dial, CONNACK and SUBACK each
	goodbyeTimeout   = time.Second      // a peer that takes no bytes is left after this
)

var errNoAnswer = fmt.Errorf("no answer within %v", connectTimeout)

// DialFunc opens a connection, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// link is where to connect and as whom.
type link struct {
	url       *url.URL
	clientID  string
	username  string
	password  edgeagent.Secret
	keepAlive time.Duration // whole seconds
	clean     bool          // start with a new session at the server
	filters   int           // topics in the one subscribe
	dial      DialFunc
	tls       uplink.TLSConfig
	proxy     uplink.ProxyConfig
	dir       string           // where relative file names start
	now       func() time.Time // for certificates
	log       *slog.Logger
	trace     *Trace // may be nil
}

// ports are the defaults of the schemes.
var ports = map[string]string{
	"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883", "ws": "80", "wss": "443",
}

// secure and webSocket say what a scheme puts on top of TCP.
func secure(scheme string) bool    { return scheme == "wss" || ports[scheme] == "8883" }
func webSocket(scheme string) bool { return scheme == "ws" || scheme == "wss" }

const urlHint = "write destinations[].links[].url as mqtt://host:1883 or mqtts://host:8883"

// parseURL reads scheme://host[:port], and a path for WebSockets. Anything else is
// refused rather than ignored.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("parse link url: %w", err)
	}
	port, known := ports[u.Scheme]
	switch {
	case !known:
		return nil, edgeagent.WithHint(
			fmt.Errorf("link url %s: want scheme mqtt, mqtts, ws or wss", u.Redacted()), urlHint)
	case u.Hostname() == "":
		return nil, fmt.Errorf("link url %s has no host", u.Redacted())
	case u.User != nil:
		return nil, edgeagent.WithHint(fmt.Errorf("link url %s holds a login", u.Redacted()),
			"use destinations[].links[].username and password")
	case !webSocket(u.Scheme) && (u.Path != "" && u.Path != "/" || u.RawQuery != "") || u.Fragment != "":
		return nil, fmt.Errorf("link url %s holds more than host and port", u.Redacted())
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	switch {
	case !webSocket(u.Scheme):
		u.Path = ""
	case u.Path == "" || u.Path == "/":
		u.Path = "/mqtt"
	}
	return u, nil
}

// newLink checks what can be checked without a network; files are read when a
// session begins.
func newLink(cfg uplink.LinkConfig, dial DialFunc, log *slog.Logger) (link, error) {
	u, err := parseURL(cfg.URL)
	if err != nil {
		return link{}, err
	}
	if err := errors.Join(cfg.TLS.Validate(), cfg.Proxy.Validate()); err != nil {
		return link{}, err
	}
	if cfg.Username == "" && !cfg.Password.IsZero() {
		return link{}, edgeagent.WithHint(errors.New("link has a password and no user name"),
			"set destinations[].links[].username")
	}
	keepAlive := cfg.KeepAlive
	if keepAlive <= 0 {
		keepAlive = defaultKeepAlive
	}
	// MQTT counts keep-alive in whole seconds, 16 bits of them.
	keepAlive = min(max(keepAlive, time.Second), 65535*time.Second).Truncate(time.Second)
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return link{
		url: u, keepAlive: keepAlive, dial: dial, log: log, tls: cfg.TLS, proxy: cfg.Proxy, now: time.Now,
		username: cfg.Username, password: cfg.Password, clientID: cfg.ClientID,
	}, nil
}

// String names the link without secrets.
func (l *link) String() string { return l.url.Scheme + "://" + l.url.Host }

// options is the one set of options under which the library neither lies about
// an acknowledgement nor blocks for ever.
func (l *link) options() *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{l.url}
	return o.
		SetProtocolVersion(4).
		SetClientID(l.clientID).
		SetUsername(l.username).
		SetPassword(l.password.Reveal()).
		SetCleanSession(l.clean).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetStore(paho.NewMemoryStore()).
		SetOrderMatters(true).
		SetAutoAckDisabled(true).
		SetKeepAlive(0). // see heartbeat, and conn for what CONNECT says
		SetWriteTimeout(writeTimeout).
		SetConnectTimeout(connectTimeout)
}

// client3 is one connection in MQTT 3.1.1: a library client that is used once, and the socket
// below it.
type client3 struct {
	paho paho.Client
	conn *conn
	name string // of the link
	// resumed: the server still had the session, subscriptions included.
	resumed bool
	lost    chan struct{}
	gone    error // why, valid once lost is closed
	// closed ends the waits of those who still hope for a token.
	closed chan struct{}
	watch  sync.WaitGroup // the heartbeat
}

// connect3 dials and logs in. inbound gets every message and must neither block
// nor call the library. The caller must close the client.
func (l *link) connect3(ctx context.Context, inbound func(paho.Message)) (*client3, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, errNoAnswer)
	defer cancel()
	c := &client3{name: l.String(), lost: make(chan struct{}), closed: make(chan struct{})}
	var once sync.Once
	var abort func() bool
	var dialed error // the library keeps only the text of it
	o := l.options().
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { inbound(m) }).
		SetConnectionLostHandler(func(_ paho.Client, err error) {
			once.Do(func() { c.gone = err; close(c.lost) })
		}).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
			raw, err := l.open(ctx)
			if err != nil {
				dialed = err
				return nil, err
			}
			c.conn = newConn(raw, l.filters, l.keepAlive)
			abort = context.AfterFunc(ctx, func() { _ = c.conn.Close() })
			return c.conn, nil
		})
	c.paho = paho.NewClient(o)
	token := c.paho.Connect().(*paho.ConnectToken)
	// Ends with ctx: the dial does, and afterwards the socket is closed.
	<-token.Done()
	if abort != nil && !abort() && token.Error() == nil {
		c.close()
		return nil, fmt.Errorf("connect to %s: %w", l, context.Cause(ctx))
	}
	if err := token.Error(); err != nil {
		if dialed != nil {
			err = dialed
		}
		return nil, l.explain(ctx, token.ReturnCode(), err)
	}
	c.resumed = token.SessionPresent()
	c.watch.Go(func() {
		if err := c.conn.beat.run(c.closed, c.conn.ping); err != nil {
			c.conn.abandon(err)
		}
	})
	return c, nil
}

// explain makes of a failed connect what the caller can act on.
func (l *link) explain(ctx context.Context, code byte, err error) error {
	switch code {
	case packets.ErrRefusedBadUsernameOrPassword:
		return uplink.Refused("bad user name or password", loginHint)
	case packets.ErrRefusedNotAuthorised:
		return uplink.Refused("not authorized", loginHint)
	case packets.ErrRefusedIDRejected:
		return uplink.Refused("client id "+l.clientID+" rejected",
			"set destinations[].links[].client_id to an id that the broker accepts")
	case packets.ErrRefusedBadProtocolVersion:
		return uplink.Refused("it does not speak MQTT 3.1.1",
			"check the address in destinations[].links[].url")
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("connect to %s: %w", l, err)
}

const loginHint = "check destinations[].links[].username and password"

// subscribe asks for topics at QoS 1 and waits for the server's word. It may refuse all
// but the first so many.
func (c *client3) subscribe(ctx context.Context, needed int, topics ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, errNoAnswer)
	defer cancel()
	filters := make(map[string]byte, len(topics))
	for _, t := range topics {
		filters[t] = 1
	}
	token := c.paho.SubscribeMultiple(filters, nil).(*paho.SubscribeToken)
	select {
	case <-token.Done():
	case <-c.lost:
		return c.why()
	case <-ctx.Done():
		return fmt.Errorf("subscribe at %s: %w", c.name, context.Cause(ctx))
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("subscribe at %s: %w", c.name, err)
	}
	results := token.Result()
	for _, topic := range topics[:needed] {
		granted := results[topic]
		// 0x80 is the one refusal of MQTT 3.1.1. mochi answers 0x91 when it waits
		// for us to acknowledge a message with the number of this SUBSCRIBE; it
		// has the subscription from before, then.
		if granted == 0x80 || granted > 2 && !c.resumed {
			return uplink.Refused("may not subscribe to "+topic,
				"let the broker's access list allow it to the user in destinations[].links[].username")
		}
	}
	return nil
}

// why says how the connection ended; valid once lost is closed.
func (c *client3) why() error {
	if c.gone == nil {
		return errors.New("connection to " + c.name + " lost")
	}
	return fmt.Errorf("connection to %s lost: %w", c.name, c.gone)
}

// close says goodbye, if anybody still listens, and ends the library's
// goroutines. It takes goodbyeTimeout at most.
func (c *client3) close() {
	close(c.closed)
	defer c.watch.Wait()
	stop := time.AfterFunc(goodbyeTimeout, func() { _ = c.conn.Close() })
	c.paho.Disconnect(uint(4 * goodbyeTimeout / time.Millisecond))
	stop.Stop()
	_ = c.conn.Close()
}

// publish sends a message and waits for the server's PUBACK.
func (c *client3) publish(ctx context.Context, topic string, payload []byte) error {
	late := time.NewTimer(publishLimit)
	defer late.Stop()
	token := c.paho.Publish(topic, 1, false, payload)
	select {
	case <-token.Done():
		return token.Error()
	case <-c.lost:
		return c.why()
	case <-c.closed:
		return ErrOffline
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.C:
		c.conn.abandon(errNoPuback)
		return errNoPuback
	}
}

// ended implements connection.
func (c *client3) ended() <-chan struct{} { return c.lost }

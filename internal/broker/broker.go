package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// The bounds of a broker, see the package comment.
const (
	maxInflight = 65535   // messages kept for one client
	maxPending  = 16384   // writes queued for one client
	maxPacket   = 1 << 20 // bytes
	maxClients  = 10000
	maxIDs      = 64   // client ids of one user, if there is Allow
	sysInterval = 3600 // seconds between $SYS messages: nobody reads them
)

// Options configure a broker.
type Options struct {
	// Addr is where to listen, host:port. The default is "127.0.0.1:0": loopback
	// only, a free port.
	Addr string
	// Users maps names to passwords. Without users everybody may log in.
	Users map[string]string
	// TLS secures the listener. With client certificates the user is the common name
	// of the certificate, and needs no password.
	TLS *tls.Config
	// Allow says what a user may publish (write) or subscribe to; default everything.
	Allow func(user, topic string, write bool) bool
	// Logger gets refused logins (warn) and comings and goings (debug). The
	// default drops them.
	Logger *slog.Logger
}

// Broker is an MQTT broker. Create one with [New].
type Broker struct {
	opts     Options
	log      *slog.Logger
	refuse   atomic.Bool
	withhold atomic.Bool
	server   *mqtt.Server

	mu       sync.Mutex // guards what follows
	listener net.Listener
	conns    map[net.Conn]*served
	byID     map[string]*served // who a client id belongs to
	owners   map[string]string  // who a client id was first seen with, if there is Allow
	claims   map[string]int     // how many of those a user has
	pipes    chan net.Conn      // from Dial
	done     chan struct{}      // closed with closed
	closed   bool
	logins   uint64
	refused  uint64
}

// served is one connection.
type served struct {
	conn net.Conn
	id   string        // client id, once it has logged in
	user string        // as it logged in
	done chan struct{} // closed when nothing of it is left
}

// Stats counts what a broker has done since it was made.
type Stats struct {
	Clients  int64  // connected now
	Logins   uint64 // accepted
	Refused  uint64 // logins refused
	Received int64  // messages published by clients
	Sent     int64  // messages delivered to clients
	Dropped  int64  // messages given up because a client's queue was full
	Waiting  int64  // messages sent or queued that no client has acknowledged
}

// New returns a broker that does not listen yet.
func New(o Options) *Broker {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Broker{
		opts: o, log: o.Logger, server: newServer(), conns: map[net.Conn]*served{}, byID: map[string]*served{},
		owners: map[string]string{}, claims: map[string]int{}, pipes: make(chan net.Conn), done: make(chan struct{}),
	}
}

func newServer() *mqtt.Server {
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClients = maxClients
	caps.MaximumInflight = maxInflight
	caps.MaximumClientWritesPending = maxPending
	caps.MaximumPacketSize = maxPacket
	return mqtt.New(&mqtt.Options{
		Capabilities:             caps,
		InlineClient:             true, // for WithholdAcks
		SysTopicResendInterval:   sysInterval,
		ClientNetReadBufferSize:  16 << 10,
		ClientNetWriteBufferSize: 16 << 10,
		// mochi logs packets and every lost connection as warnings; what is
		// worth telling is logged by the hook.
		Logger: slog.New(slog.DiscardHandler),
	})
}

// Listen binds the address, so that [Broker.Addr] is known and clients may
// connect; they are served once Run is called. Calling it is optional and
// repeated calls do nothing.
func (b *Broker) Listen() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errors.New("broker has been closed")
	}
	if b.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", b.opts.Addr)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if b.opts.TLS != nil {
		l = tls.NewListener(l, b.opts.TLS)
	}
	b.listener = l
	return nil
}

// Addr returns host:port once Listen has returned, and "" before.
func (b *Broker) Addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listener == nil {
		return ""
	}
	return b.listener.Addr().String()
}

// URL returns the address as links and receivers take it: "mqtt://host:port", or
// mqtts.
func (b *Broker) URL() string {
	if b.opts.TLS != nil {
		return "mqtts://" + b.Addr()
	}
	return "mqtt://" + b.Addr()
}

// RefuseLogins makes the broker answer every new login with "not authorized"
// until it is called with false. Clients that are connected stay.
func (b *Broker) RefuseLogins(refuse bool) { b.refuse.Store(refuse) }

// WithholdAcks makes the broker deliver what is published and acknowledge none of it,
// until it is called with false: connections stay up and pings are answered, as by a
// server that is throttling or stuck.
func (b *Broker) WithholdAcks(withhold bool) { b.withhold.Store(withhold) }

// Run serves clients until ctx ends, and returns nil then. It listens first
// unless Listen was called. It may be called once: sessions do not outlive it.
func (b *Broker) Run(ctx context.Context) error {
	if err := b.Listen(); err != nil {
		return err
	}
	if err := b.server.AddHook(&hook{broker: b}, nil); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	stop := context.AfterFunc(ctx, b.closeAll)
	var clients sync.WaitGroup
	clients.Go(func() { b.acceptPipes(&clients) })
	err := b.accept(&clients)
	if ctx.Err() != nil {
		err = nil
	}
	stop()
	b.closeAll()
	clients.Wait()
	return errors.Join(err, b.server.Close())
}

func (b *Broker) accept(clients *sync.WaitGroup) error {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return fmt.Errorf("broker: %w", err)
		}
		b.serve(clients, conn)
	}
}

func (b *Broker) serve(clients *sync.WaitGroup, conn net.Conn) {
	c := b.track(conn)
	if c == nil {
		_ = conn.Close()
		return
	}
	clients.Go(func() {
		defer b.untrack(c)
		err := b.server.EstablishConnection("tcp", conn)
		b.log.Debug("client gone", "remote", conn.RemoteAddr().String(), "error", err)
	})
}

func (b *Broker) track(conn net.Conn) *served {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	c := &served{conn: conn, done: make(chan struct{})}
	b.conns[conn] = c
	return c
}

func (b *Broker) untrack(c *served) {
	_ = c.conn.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c.conn)
	if b.byID[c.id] == c {
		delete(b.byID, c.id)
	}
	close(c.done)
}

// takeOver gives a client id to the connection conn and waits until nothing is
// left of the one that had it before. Left alone, mochi may clear away the new
// session together with the old one: its subscriptions are kept by client id.
func (b *Broker) takeOver(conn net.Conn, id string) {
	for {
		before := b.claim(conn, id)
		if before == nil {
			return
		}
		_ = before.conn.Close()
		<-before.done
	}
}

// claim returns who has the id, or gives it to conn and returns nil.
func (b *Broker) claim(conn net.Conn, id string) (before *served) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.conns[conn]
	if before = b.byID[id]; before != nil && before != c {
		return before
	}
	if c != nil {
		c.id = id
		b.byID[id] = c
	}
	return nil
}

func (b *Broker) closeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.done)
	}
	if b.listener != nil {
		_ = b.listener.Close()
	}
	for c := range b.conns {
		_ = c.Close()
	}
}

// Stats returns the counters.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	s := Stats{Logins: b.logins, Refused: b.refused}
	b.mu.Unlock()
	info := b.server.Info
	s.Clients = atomic.LoadInt64(&info.ClientsConnected)
	s.Received = atomic.LoadInt64(&info.MessagesReceived)
	s.Sent = atomic.LoadInt64(&info.MessagesSent)
	s.Dropped = atomic.LoadInt64(&info.MessagesDropped) + atomic.LoadInt64(&info.InflightDropped)
	// mochi's own counter loses track when a client comes back to its session.
	for _, cl := range b.server.Clients.GetAll() {
		s.Waiting += int64(cl.State.Inflight.Len())
	}
	return s
}

// hook answers mochi's questions about logins and topics.
type hook struct {
	mqtt.HookBase
	broker *Broker
}

func (h *hook) ID() string { return "login" }

func (h *hook) Provides(event byte) bool {
	return bytes.IndexByte([]byte{mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnPublish}, event) >= 0
}

func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	ok := h.broker.login(cl.Net.Conn, string(pk.Connect.Username), string(pk.Connect.Password)) &&
		h.broker.owns(cl.Net.Conn, cl.ID) &&
		(!pk.Connect.WillFlag || h.broker.permits(cl.Net.Conn, pk.Connect.WillTopic, true)) // mochi does not ask about wills
	h.broker.countLogin(ok)
	if !ok {
		h.broker.log.Warn("login refused", "client_id", cl.ID, "username", string(pk.Connect.Username))
		return false
	}
	h.broker.log.Debug("client connected", "client_id", cl.ID, "remote", cl.Net.Remote)
	return true
}

func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	h.broker.takeOver(cl.Net.Conn, cl.ID)
}

// OnConnect and OnSessionEstablished switch off the Receive Maximum of MQTT 5 clients:
// mochi takes a read lock twice when it looks whether a message may go now, and stands
// still for ever when another is published between the two.
func (h *hook) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	cl.State.Inflight.ResetSendQuota(0)
	return nil
}

func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	cl.State.Inflight.ResetSendQuota(0) // a session that is taken up again sets it again
}

func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if !h.broker.withhold.Load() || cl.Net.Inline {
		return pk, nil
	}
	// Rejected, a message is neither acknowledged nor delivered; so it goes on in
	// the broker's own name.
	if err := h.broker.server.Publish(pk.TopicName, pk.Payload, pk.FixedHeader.Retain, pk.FixedHeader.Qos); err != nil {
		h.broker.log.Warn("publish without acknowledgement failed", "topic", pk.TopicName, "error", err)
	}
	return pk, packets.ErrRejectPacket
}

func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	return cl.Net.Inline || h.broker.permits(cl.Net.Conn, topic, write)
}

func (b *Broker) allowed(user, password string) bool {
	if b.refuse.Load() {
		return false
	}
	want, known := b.opts.Users[user]
	return len(b.opts.Users) == 0 || known && want == password
}

func (b *Broker) countLogin(ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ok {
		b.logins++
	} else {
		b.refused++
	}
}

package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// Defaults of a [ReceiverConfig].
const (
	DefaultClientID = "edgehub"
	AllData         = "ea/v1/+/+/d/+" // every lane of every device of every tenant
)

const (
	queueMessages = 4096
	queueBytes    = 64 << 20
	retryBase     = 500 * time.Millisecond
	retryCap      = 30 * time.Second
	refusedBase   = 5 * time.Second
	healthyAfter  = 60 * time.Second
	publishLimit  = 20 * time.Second // for a PUBACK; beyond it the connection is dropped
)

// ErrOffline is returned by [Receiver.Publish] while there is no connection.
var ErrOffline = errors.New("receiver is not connected")

// errFlooded ends a connection whose messages came faster than they were
// handled.
var errFlooded = errors.New("queue was full, have the broker send the rest again")

// Delivery is a message that came in. Ack tells the server that it need not send
// it again; without Ack the server does after the next reconnect. Ack may be
// called once, from any goroutine, at any time: after its connection has ended
// it does nothing.
//
// It is an alias of a plain struct so that whoever consumes deliveries can
// declare the same type and need not import this package.
type Delivery = struct {
	Topic   string
	Payload []byte
	Ack     func()
}

// ReceiverConfig configures a [Receiver].
type ReceiverConfig struct {
	URL string // mqtt://host[:port], mqtts://…, ws://host/mqtt, wss://…
	// ClientID names the session that the server keeps while the receiver is
	// away. Default "edgehub"; two receivers with the same id take each other's
	// connection over. Acks are published by a second client, ClientID + "-acks".
	ClientID string
	Username string
	Password edgeagent.Secret
	// Subscribe lists topic filters; default [AllData].
	Subscribe []string
	KeepAlive time.Duration // default 30 s
	// Protocol is "auto" (default; MQTT 5, and 3.1.1 where the server does not speak
	// it), "3.1.1" or "5".
	Protocol string
	// Group shares the messages with all receivers of the same group, each with a
	// ClientID of its own ($share/GROUP/…; needs MQTT 5). Default none.
	Group string
	// SessionExpiry is how long the server keeps the session, and what waits in it,
	// when the receiver is away (MQTT 5; 3.1.1 says nothing of it). Default 7 days,
	// and 5 minutes in a group, where the messages of a receiver that does not come
	// back would wait for nobody.
	SessionExpiry time.Duration
	// ReceiveMaximum bounds the messages that are delivered and not acknowledged
	// (MQTT 5). Default 256, at most 4,096.
	ReceiveMaximum int
	// TLS secures mqtts and wss; relative file names start at the working directory.
	TLS   uplink.TLSConfig
	Proxy uplink.ProxyConfig
	// Dial opens connections; default [net.Dialer.DialContext].
	Dial DialFunc
	// Logger gets changes of the connection's state; default none.
	Logger *slog.Logger
}

// Receiver takes messages from a server and publishes acks to it. Its session at
// the server is persistent: what arrives while it is away waits there, within
// the server's own bounds.
//
// It holds two connections. Some servers, mochi among them, count the messages
// of both directions in one space of numbers, and forget one that they have yet
// to see acknowledged when the client publishes under the same number.
type Receiver struct {
	data link // persistent session, never publishes
	acks link // clean session, never subscribes
	subs []string

	receive uint16
	expiry  time.Duration
	tongue  *tongue

	mu        sync.Mutex // guards what follows
	publisher publisher  // nil while there is no connection
	in        *inbox     // of the current connection
	stats     ReceiverStats
}

// ReceiverStats is the state of a receiver and what it has done.
type ReceiverStats struct {
	Connected bool
	Since     time.Time // of Connected
	Connects  uint64    // times a connection came up
	Protocol  string    // "5" or "3.1.1", of the connection or the last one
	Delivered uint64    // messages handed to the handler
	// Dropped counts messages that came while the queue was full. They were not
	// acknowledged, so the server sends them again.
	Dropped   uint64
	Depth     int // messages queued for the handler now, at most 4,096
	Bytes     int // of their payloads, at most 64 MiB
	LastError string
}

// NewReceiver returns a receiver that does not connect yet.
func NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	if cfg.ClientID == "" {
		cfg.ClientID = DefaultClientID
	}
	if len(cfg.Subscribe) == 0 {
		cfg.Subscribe = []string{AllData}
	}
	l, err := newLink(uplink.LinkConfig{
		URL: cfg.URL, ClientID: cfg.ClientID, Username: cfg.Username, Password: cfg.Password,
		KeepAlive: cfg.KeepAlive, TLS: cfg.TLS, Proxy: cfg.Proxy,
	}, cfg.Dial, cfg.Logger)
	if err != nil {
		return nil, err
	}
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	tongue, err := newTongue(cfg.Protocol, cfg.needsFive())
	if err != nil {
		return nil, err
	}
	subs := dedupe(cfg.Subscribe)
	if cfg.Group != "" {
		for i, f := range subs {
			subs[i] = "$share/" + cfg.Group + "/" + f
		}
	}
	r := &Receiver{data: l, acks: l, subs: subs, tongue: tongue, receive: uint16(cfg.ReceiveMaximum), expiry: cfg.SessionExpiry}
	r.data.filters = len(subs)
	r.acks.clean = true
	r.acks.clientID += "-acks"
	return r, nil
}

const (
	defaultReceive     = 256
	maxReceive         = 4096
	defaultExpiry      = 7 * 24 * time.Hour
	defaultGroupExpiry = 5 * time.Minute
)

// setDefaults completes what concerns MQTT 5.
func (c *ReceiverConfig) setDefaults() error {
	if c.Group != "" {
		if err := validName("group", c.Group); err != nil {
			return err
		}
	}
	if c.SessionExpiry == 0 {
		c.SessionExpiry = defaultExpiry
		if c.Group != "" {
			c.SessionExpiry = defaultGroupExpiry
		}
	}
	if c.ReceiveMaximum == 0 {
		c.ReceiveMaximum = defaultReceive
	}
	if c.SessionExpiry < 0 || c.ReceiveMaximum < 1 || c.ReceiveMaximum > maxReceive {
		return fmt.Errorf("session expiry %v or receive maximum %d is out of range, want 0 or more and 1 to %d", c.SessionExpiry, c.ReceiveMaximum, maxReceive)
	}
	return nil
}

// needsFive says why only MQTT 5 will do, nil if it is not so.
func (c *ReceiverConfig) needsFive() error {
	if c.Group == "" {
		return nil
	}
	return edgeagent.WithHint(errors.New("MQTT 3.1.1 has no shared subscriptions"), "use protocol auto or 5, or no group")
}

// dedupe drops repeated filters: the library sends a set.
func dedupe(filters []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, f := range filters {
		if !seen[f] {
			seen[f] = true
			out = append(out, f)
		}
	}
	return out
}

// String names the link without secrets.
func (r *Receiver) String() string { return r.data.String() }

// Run connects, hands messages to handle and reconnects for ever, until ctx
// ends; it returns nil then. handle is called from one goroutine at a time. It
// may block: meanwhile up to 4,096 messages or 64 MiB are queued, and what comes
// on top is dropped unacknowledged and asked for again, by reconnecting, once the
// queue is empty. Run must not be called twice at the same time.
func (r *Receiver) Run(ctx context.Context, handle func(Delivery)) error {
	wait := backoff{base: retryBase, limit: retryCap}
	for {
		began := time.Now()
		delivered, err := r.session(ctx, handle)
		if ctx.Err() != nil {
			return nil
		}
		if delivered > 0 || time.Since(began) > healthyAfter {
			wait.reset()
		}
		pause := wait.next()
		if _, refused := errors.AsType[*uplink.RefusedError](err); refused {
			pause = max(pause, refusedBase)
		}
		if errors.Is(err, errFlooded) {
			pause = 0
		}
		r.note(ctx, err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// note records and logs why a connection ended or did not come about. The same
// reason again is worth a debug line only.
func (r *Receiver) note(ctx context.Context, err error, pause time.Duration) {
	r.mu.Lock()
	repeated := r.stats.LastError == err.Error()
	r.stats.LastError = err.Error()
	r.mu.Unlock()
	level := slog.LevelWarn
	if repeated {
		level = slog.LevelDebug
	}
	r.data.log.Log(ctx, level, "receiver has no connection",
		"link", r.String(), "error", err, "retry_in", pause)
}

// session is one pair of connections. It returns how many messages it handed
// over.
func (r *Receiver) session(ctx context.Context, handle func(Delivery)) (delivered int, err error) {
	publisher, five, err := r.connectPublisher(ctx)
	if err != nil {
		return 0, err
	}
	defer publisher.close()
	in := newInbox()
	c, err := r.connectData(ctx, five, in)
	if err != nil {
		return 0, err
	}
	defer c.close()
	r.up(publisher, in, five)
	defer r.down(in)
	for {
		select {
		case m := <-in.queue:
			in.took(m)
			r.countDelivery()
			handle(Delivery{Topic: m.topic, Payload: m.payload, Ack: m.ack})
			delivered++
		case <-in.flooded:
			in.ending = true
		case <-c.ended():
			return delivered, c.why()
		case <-publisher.ended():
			return delivered, publisher.why()
		case <-ctx.Done():
			return delivered, context.Cause(ctx)
		}
		if in.ending && len(in.queue) == 0 {
			return delivered, fmt.Errorf("connection to %s: %w", r, errFlooded)
		}
	}
}

func (r *Receiver) up(p publisher, in *inbox, five bool) {
	r.mu.Lock()
	r.publisher, r.in = p, in
	r.stats.Protocol = protocolName(five)
	r.stats.Connected, r.stats.Since = true, time.Now()
	r.stats.Connects++
	r.stats.LastError = ""
	r.mu.Unlock()
	r.data.log.Info("receiver connected", "link", r.String(), "client_id", r.data.clientID, "protocol", protocolName(five))
}

func (r *Receiver) down(in *inbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.publisher, r.in = nil, nil
	r.stats.Connected, r.stats.Since = false, time.Now()
	r.stats.Dropped += in.drops()
}

func (r *Receiver) countDelivery() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Delivered++
}

// Stats returns the receiver's state and counters.
func (r *Receiver) Stats() ReceiverStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	if r.in != nil {
		s.Depth, s.Bytes = r.in.depth()
		s.Dropped += r.in.drops()
	}
	return s
}

// Publish sends payload at QoS 1, not retained, and waits for the server's
// PUBACK. It returns [ErrOffline] at once while there is no connection, and drops
// the connection when the PUBACK stays away for 20 s. It is safe for concurrent
// use; the handler of [Receiver.Run] may call it, too, but waits meanwhile.
func (r *Receiver) Publish(ctx context.Context, topic string, payload []byte) error {
	r.mu.Lock()
	c := r.publisher
	r.mu.Unlock()
	if c == nil {
		return ErrOffline
	}
	if err := c.publish(ctx, topic, payload); err != nil {
		return fmt.Errorf("publish to %s: %w", r, err)
	}
	return nil
}

// inbox takes messages off the library's goroutine, which must not block.
type inbox struct {
	queue   chan message
	flooded chan struct{} // told once, when the first message is dropped
	ending  bool          // flooded: the connection ends once the queue is empty

	mu      sync.Mutex // guards what follows
	bytes   int
	full    bool
	dropped uint64
}

func newInbox() *inbox {
	return &inbox{queue: make(chan message, queueMessages), flooded: make(chan struct{}, 1)}
}

// put queues m. Once one message did not fit, all that follow are dropped, too,
// so that the server sends them again in their order.
func (q *inbox) put(m message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := len(m.payload)
	if !q.full && (q.bytes == 0 || q.bytes+size <= queueBytes) {
		select {
		case q.queue <- m:
			q.bytes += size
			return
		default:
		}
	}
	if !q.full {
		q.full = true
		q.flooded <- struct{}{}
	}
	q.dropped++
}

func (q *inbox) took(m message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= len(m.payload)
}

func (q *inbox) depth() (messages, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue), q.bytes
}

func (q *inbox) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// backoff is decorrelated jitter: each pause is drawn between base and three
// times the one before.
type backoff struct{ base, limit, prev time.Duration }

func (b *backoff) reset() { b.prev = 0 }

func (b *backoff) next() time.Duration {
	top := max(3*b.prev, b.base)
	b.prev = min(b.limit, b.base+rand.N(top-b.base+1))
	return b.prev
}

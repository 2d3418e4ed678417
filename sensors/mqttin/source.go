package mqttin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

const (
	// maxWaiting bounds the messages that wait to be read: the oldest gives way.
	maxWaiting = 1024
	// maxMessage bounds a message; a longer one is passed over.
	maxMessage = 64 << 10
	// maxPacket ends the connection before a packet is read that would fill the
	// memory.
	maxPacket = 1 << 20
	// batch is how many messages one sample reads.
	batch = 256
	// wait keeps a sample below the scheduler's deadline.
	wait = time.Second

	keepAlive    = 30 * time.Second
	redialBase   = time.Second
	redialCap    = time.Minute
	disconnectMs = 250
)

var errClosed = errors.New("sensor is closed")

var (
	_ sensors.Paced     = (*source)(nil)
	_ sensors.SelfPaced = (*Config)(nil)
)

// source is one connection to a broker.
type source struct {
	env     sensors.Env
	cfg     *Config
	address string
	decoder decoder
	queue   queue
	taken   []message
	dial    func(ctx context.Context) (*link, error)
	link    *link // nil: not connected
	redial  time.Duration
	next    time.Duration // wait before the next Sample
	dropped uint64        // as told last
	refused uint64
	closed  bool
}

// link is a session with a broker.
type link struct {
	lost  chan error // capacity 1: why it ended
	close func()
}

func newSource(env sensors.Env, c *Config, address string) *source {
	s := &source{
		env: env, cfg: c, address: address,
		decoder: decoder{env: env, topics: c.Topics, max: c.MaxSeries, series: map[name]edgeagent.Series{}},
		queue:   queue{arrived: make(chan struct{}, 1)},
	}
	s.dial = s.connect
	return s
}

// Next is 0 while there is a connection: Sample waits by itself.
func (s *source) Next() time.Duration { return s.next }

// Sample waits for messages for up to a second and reads them. It connects if need be.
func (s *source) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	if err := s.connected(ctx); err != nil {
		return dst, err
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	var lost error
	select {
	case <-s.queue.arrived:
	case lost = <-s.link.lost:
		s.hangUp()
	case <-ctx.Done():
	case <-t.C:
	}
	var more bool
	s.taken, more = s.queue.take(s.taken[:0], batch)
	var first error
	for i := range s.taken {
		var err error
		if dst, err = s.decoder.decode(dst, s.taken[i]); err != nil && first == nil && !errors.Is(err, errNoFilter) {
			first = err
		}
		s.taken[i] = message{}
	}
	if more {
		s.queue.nudge()
	}
	return dst, errors.Join(lost, first, s.losses())
}

// losses tells of what was given up since it told last.
func (s *source) losses() error {
	var errs []error
	if n := s.queue.droppedSoFar(); n > s.dropped {
		errs = append(errs, fmt.Errorf("%d messages dropped: they came faster than they were read, or were longer than 64 KiB", n-s.dropped))
		s.dropped = n
	}
	if n := s.decoder.refused; n > s.refused {
		errs = append(errs, edgeagent.WithHint(fmt.Errorf("%d readings refused: there are %d series already", n-s.refused, s.cfg.MaxSeries),
			"raise max_series, or name fewer topics"))
		s.refused = n
	}
	return errors.Join(errs...)
}

// connected connects unless it is connected, and backs off from a broker that is not
// there.
func (s *source) connected(ctx context.Context) error {
	s.next = 0
	if s.link != nil {
		return nil
	}
	l, err := s.dial(ctx)
	if err == nil {
		s.link, s.redial = l, 0
		return nil
	}
	s.redial = min(max(2*s.redial, redialBase), redialCap)
	s.next = s.redial
	return edgeagent.WithHint(fmt.Errorf("connect to %s: %w", s.cfg.URL, err), "check the keys url, username and password, and that the broker runs")
}

// connect opens a session and subscribes. The library's own reconnect stays off: it
// would go on behind the back of whoever closes the source.
func (s *source) connect(ctx context.Context) (*link, error) {
	lost := make(chan error, 1)
	o := mqtt.NewClientOptions().AddBroker("tcp://" + s.address).SetClientID(s.cfg.ClientID).
		SetUsername(s.cfg.Username).SetPassword(s.cfg.Password.Reveal()).
		SetAutoReconnect(false).SetConnectRetry(false).SetCleanSession(true).SetOrderMatters(true).
		SetKeepAlive(keepAlive).SetPingTimeout(keepAlive / 3).SetConnectTimeout(wait).SetWriteTimeout(wait).
		SetProtocolVersion(4).SetMaxReconnectInterval(redialCap).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			s.queue.put(message{m.Topic(), m.Payload(), m.Retained(), s.env.Now()})
		}).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- fmt.Errorf("connection lost: %w", err) }).
		SetCustomOpenConnectionFn(openConnection(ctx, s.address))
	c := mqtt.NewClient(o)
	filters := map[string]byte{}
	for _, t := range s.cfg.Topics {
		filters[t.Filter] = 1
	}
	err := finish(ctx, c.Connect())
	if err == nil {
		token := c.SubscribeMultiple(filters, nil)
		if err = finish(ctx, token); err == nil {
			err = refusedFilters(token)
		}
	}
	if err != nil {
		c.Disconnect(0)
		return nil, err
	}
	return &link{lost, func() { c.Disconnect(disconnectMs) }}, nil
}

// finish waits for a token as long as ctx allows.
func finish(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refusedFilters finds what the broker does not let us listen to.
func refusedFilters(t mqtt.Token) error {
	sub, ok := t.(*mqtt.SubscribeToken)
	if !ok {
		return nil
	}
	for filter, code := range sub.Result() {
		if code == 0x80 {
			return fmt.Errorf("the broker refuses the filter %q", filter)
		}
	}
	return nil
}

func (s *source) hangUp() {
	if s.link != nil {
		s.link.close()
		s.link = nil
	}
}

// Close ends the session.
func (s *source) Close() error {
	s.closed = true
	s.hangUp()
	return nil
}

// queue holds the messages that wait. Whoever puts never waits: the library's reader
// does it.
type queue struct {
	arrived chan struct{} // capacity 1

	mu      sync.Mutex // guards what follows
	list    []message
	dropped uint64
}

func (q *queue) put(m message) {
	q.mu.Lock()
	if len(m.payload) > maxMessage {
		q.dropped++
		q.mu.Unlock()
		return
	}
	if len(q.list) >= maxWaiting {
		q.list[0] = message{}
		q.list = q.list[1:]
		q.dropped++
	}
	q.list = append(q.list, m)
	q.mu.Unlock()
	q.nudge()
}

func (q *queue) nudge() {
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// take moves up to n messages to dst and reports whether there are more.
func (q *queue) take(dst []message, n int) ([]message, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.list))
	dst = append(dst, q.list[:n]...)
	clear(q.list[:n])
	q.list = q.list[n:]
	return dst, len(q.list) > 0
}

func (q *queue) droppedSoFar() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// limited ends a connection before a packet that is too long is read: the library
// would make room for 256 MiB if it is told so.
type limited struct {
	net.Conn
	in    *bufio.Reader
	left  int // bytes of the packet under way
	shift int // within the length of a packet: the next seven bits go there; -1: at its start
	size  int
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.in.Read(b)
	for i := 0; i < n; {
		switch {
		case l.left > 0:
			skip := min(l.left, n-i)
			l.left -= skip
			i += skip
			continue
		case l.shift < 0: // type and flags
			l.shift, l.size = 0, 0
		default:
			l.size |= int(b[i]&0x7f) << l.shift
			l.shift += 7
			if l.size > maxPacket || l.shift > 28 {
				return 0, fmt.Errorf("the broker sends a packet of more than %d bytes", maxPacket)
			}
			if b[i]&0x80 == 0 {
				l.left, l.shift = l.size, -1
			}
		}
		i++
	}
	return n, err
}

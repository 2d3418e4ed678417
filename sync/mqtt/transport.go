package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

const (
	// window bounds the messages without a result. A larger one buys nothing but
	// latency, and mosquitto takes 20 at a time anyway.
	window = 64
	// ackQueue bounds the end-to-end acks that wait for the engine. They are
	// cumulative, so on overflow the oldest goes.
	ackQueue = 16
	maxAck   = 64 << 10 // bytes of one end-to-end ack
)

// Options say who sends.
type Options struct {
	Tenant string // default "default"
	Device string // required
	// Acks asks for end-to-end acks: the ack topic is subscribed to before a
	// session is up.
	Acks bool
	// Dial opens connections, to the proxy if there is one; default
	// [net.Dialer.DialContext].
	Dial DialFunc
	// Dir is where relative names of certificate files start.
	Dir string
	// Now is what certificates are held against; default [time.Now].
	Now func() time.Time
	// Logger gets dropped acks at debug level; default none.
	Logger *slog.Logger
	// Trace is told how sessions begin; default none.
	Trace *Trace
}

// Transport sends over one link. It holds no connection between sessions and is
// safe for concurrent use, though two sessions at once would fight for the client
// id.
type Transport struct {
	link     link
	lanes    [4]string // topics
	ackTopic string
	acks     bool
	stats    transportCounters
}

type transportCounters struct{ sessions, refusedAcks, droppedAcks atomic.Uint64 }

// TransportStats counts what a transport has seen.
type TransportStats struct {
	Sessions    uint64 // that came up
	DroppedAcks uint64 // end-to-end acks that gave way to newer ones
	RefusedAcks uint64 // end-to-end acks over 64 KiB
}

var _ uplink.Transport = (*Transport)(nil)

// New returns a transport for one link. It opens nothing yet.
func New(cfg uplink.LinkConfig, o Options) (*Transport, error) {
	if o.Tenant == "" {
		o.Tenant = "default"
	}
	if err := validName("device.tenant", o.Tenant); err != nil {
		return nil, err
	}
	if err := validName("device.id", o.Device); err != nil {
		return nil, err
	}
	l, err := newLink(cfg, o.Dial, o.Logger)
	if err != nil {
		return nil, err
	}
	l.clean, l.dir, l.trace = true, o.Dir, o.Trace
	if o.Now != nil {
		l.now = o.Now
	}
	if l.clientID == "" {
		l.clientID = "edgeagent-" + o.Tenant + "-" + o.Device
	}
	t := &Transport{link: l, acks: o.Acks, ackTopic: AckTopic(o.Tenant, o.Device)}
	if t.acks {
		t.link.filters = 1
	}
	for i := range t.lanes {
		t.lanes[i] = DataTopic(o.Tenant, o.Device, uplink.Lane(i).String())
	}
	return t, nil
}

// DataTopic returns where a device publishes a lane: ea/v1/{tenant}/{device}/d/{lane}.
func DataTopic(tenant, device, lane string) string {
	return "ea/v1/" + tenant + "/" + device + "/d/" + lane
}

// AckTopic returns where a device hears end-to-end acks: ea/v1/{tenant}/{device}/ack.
func AckTopic(tenant, device string) string {
	return "ea/v1/" + tenant + "/" + device + "/ack"
}

// validName refuses what would change the shape of a topic.
func validName(key, name string) error {
	switch {
	case name == "":
		return edgeagent.WithHint(errors.New(key+" is empty"), "set "+key)
	case len(name) > 128:
		return edgeagent.WithHint(fmt.Errorf("%s of %d bytes is over 128", key, len(name)), "shorten "+key)
	case strings.ContainsAny(name, "/+#\x00") || name[0] == '$':
		return edgeagent.WithHint(fmt.Errorf("%s %q cannot stand in a topic", key, name),
			`choose a `+key+` without "/", "+", "#" and a leading "$"`)
	}
	return nil
}

// String names the link without secrets.
func (t *Transport) String() string { return t.link.String() }

// Stats returns the counters.
func (t *Transport) Stats() TransportStats {
	return TransportStats{
		Sessions:    t.stats.sessions.Load(),
		DroppedAcks: t.stats.droppedAcks.Load(),
		RefusedAcks: t.stats.refusedAcks.Load(),
	}
}

// Session implements [uplink.Transport]. When ctx ends it returns ctx's error.
func (t *Transport) Session(ctx context.Context, h uplink.Handler, start func(context.Context, uplink.Session)) error {
	acks := make(chan []byte, ackQueue)
	c, err := t.link.connect(ctx, func(m paho.Message) { t.takeAck(acks, m) })
	if err != nil {
		return err
	}
	defer c.close()
	t.link.trace.loggedIn("MQTT 3.1.1")
	if t.acks {
		if err := c.subscribe(ctx, t.ackTopic); err != nil {
			return err
		}
		t.link.trace.subscribed(t.ackTopic)
	}
	t.stats.sessions.Add(1)
	return t.run(ctx, c, acks, h, start)
}

// takeAck runs on the library's goroutine: it must not block.
func (t *Transport) takeAck(acks chan []byte, m paho.Message) {
	defer m.Ack() // a server with a small window would stop sending otherwise
	if len(m.Payload()) > maxAck {
		t.stats.refusedAcks.Add(1)
		return
	}
	for {
		select {
		case acks <- m.Payload():
			return
		default:
		}
		select {
		case <-acks:
			t.stats.droppedAcks.Add(1)
			t.link.log.Debug("end-to-end ack dropped for a newer one", "link", t.String())
		default:
		}
	}
}

// run is the session while it is up.
func (t *Transport) run(ctx context.Context, c *client, acks <-chan []byte, h uplink.Handler, start func(context.Context, uplink.Session)) error {
	up, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &session{
		client: c, lanes: &t.lanes, end: end,
		over: up.Done(), cause: func() error { return context.Cause(up) },
		slots: make(chan struct{}, window), pending: make(chan published, window),
	}
	h.Up(uplink.Caps{MaxInFlight: window, KeepAlive: t.link.keepAlive})
	var running sync.WaitGroup
	running.Go(func() { start(up, s) })
	running.Go(func() { s.report(h, acks) })
	select {
	case <-up.Done():
	case <-c.lost:
		end(c.why())
	}
	// A Send that hangs in a full socket must not hold up the end of the session;
	// after an orderly end it gets a moment.
	grace := goodbyeTimeout
	if ctx.Err() == nil {
		grace = 0
	}
	stop := time.AfterFunc(grace, func() { _ = c.conn.Close() })
	defer stop.Stop()
	running.Wait()
	return context.Cause(up)
}

// session is a connection that is up.
type session struct {
	client *client
	lanes  *[4]string
	end    context.CancelCauseFunc
	over   <-chan struct{} // closed when the session ends
	cause  func() error    // why, valid then

	slots   chan struct{}  // one for each message without a result
	pending chan published // in the order of sending; never holds more than slots
}

// published is a message that was handed to the library.
type published struct {
	id    uint64
	token paho.Token
}

// Send publishes m. It waits while 64 messages are without a result. The payload
// must not change until the result of m has come or the session has ended.
func (s *session) Send(ctx context.Context, m uplink.Message) error {
	if int(m.Lane) >= len(s.lanes) {
		return fmt.Errorf("send: unknown lane %d", m.Lane)
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.over:
		return s.cause()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	token, err := s.publish(s.lanes[m.Lane], m.Payload)
	if err != nil {
		// The library's client is of no use any more: it keeps the packet and its
		// number.
		s.fail(err)
		return s.cause()
	}
	s.pending <- published{m.ID, token} // has room: it is as large as slots
	return nil
}

// publish returns when the message is in the socket, or cannot get there. The
// library's own Publish waits for the message before it to be written, and goes on
// waiting when the connection is lost meanwhile; so none is ever before it.
func (s *session) publish(topic string, payload []byte) (token paho.Token, err error) {
	c := s.client.conn
	select {
	case <-c.wrote:
	default:
	}
	err = c.handOver(func() { token = s.client.paho.Publish(topic, 1, false, payload) })
	if err != nil {
		return nil, err
	}
	select {
	case <-c.wrote:
		return token, nil
	case <-token.Done():
		return token, token.Error()
	case <-s.over:
		return nil, s.cause()
	}
}

// report hands results, in the order of sending, and end-to-end acks to h until
// the session ends.
func (s *session) report(h uplink.Handler, acks <-chan []byte) {
	for {
		select {
		case p := <-s.pending:
			if !s.await(p, h, acks) {
				return
			}
		case a := <-acks:
			h.Ack(a)
		case <-s.over:
			s.drain(h)
			return
		}
	}
}

// await waits for one message's result. It returns false when the session is
// over.
func (s *session) await(p published, h uplink.Handler, acks <-chan []byte) bool {
	for {
		select {
		case <-p.token.Done():
			if err := p.token.Error(); err != nil {
				s.fail(err)
				return false
			}
			s.accept(p, h)
			return true
		case a := <-acks:
			h.Ack(a)
		case <-s.over:
			if acknowledged(p.token) {
				s.accept(p, h)
				s.drain(h)
			}
			return false
		}
	}
}

// fail ends the session because of a publish. The library fails the publishes
// just before it says why the connection was lost, which is the better reason.
func (s *session) fail(err error) {
	late := time.NewTimer(goodbyeTimeout)
	defer late.Stop()
	select {
	case <-s.client.lost:
		s.end(s.client.why())
	case <-s.over:
	case <-late.C:
		s.end(fmt.Errorf("publish to %s: %w", s.client.name, err))
	}
}

// drain reports what was acknowledged before the session ended, so that it is not
// sent twice without need.
func (s *session) drain(h uplink.Handler) {
	for {
		select {
		case p := <-s.pending:
			if !acknowledged(p.token) {
				return
			}
			s.accept(p, h)
		default:
			return
		}
	}
}

func (s *session) accept(p published, h uplink.Handler) {
	<-s.slots
	h.Result(uplink.Result{ID: p.id, Class: uplink.Accepted})
}

// acknowledged reports whether a PUBACK has come.
func acknowledged(t paho.Token) bool {
	select {
	case <-t.Done():
		return t.Error() == nil
	default:
		return false
	}
}

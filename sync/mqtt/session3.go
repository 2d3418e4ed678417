package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// session3 runs a session in MQTT 3.1.1; answered is called when the server has
// answered the login, whatever it said.
func (t *Transport) session3(ctx context.Context, h uplink.Handler, start func(context.Context, uplink.Session), answered func()) error {
	acks := make(chan told, ackRoom)
	c, err := t.link.connect3(ctx, func(m paho.Message) { t.takeAck(acks, m) })
	if _, refused := errors.AsType[*uplink.RefusedError](err); err == nil || refused {
		answered()
	}
	if err != nil {
		return err
	}
	defer c.close()
	t.link.trace.loggedIn("MQTT 3.1.1")
	if t.acks {
		if err := c.subscribe(ctx, 1, t.topics[:]...); err != nil {
			return err
		}
		t.link.trace.subscribed(t.topics[0])
	}
	t.stats.sessions.Add(1)
	return t.run3(ctx, c, acks, h, start)
}

// takeAck runs on the library's goroutine: it must not block.
func (t *Transport) takeAck(acks chan told, m paho.Message) {
	defer m.Ack() // a server with a small window would stop sending otherwise
	word, ok := t.take(m.Topic(), m.Payload())
	if !ok {
		return
	}
	for {
		select {
		case acks <- word:
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

// run3 is the session while it is up.
func (t *Transport) run3(ctx context.Context, c *client3, acks <-chan told, h uplink.Handler, start func(context.Context, uplink.Session)) error {
	up, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &session3{
		client: c, lanes: &t.lanes, end: end,
		over: up.Done(), cause: func() error { return context.Cause(up) },
		slots: make(chan struct{}, window), pending: make(chan published, window),
	}
	h.Up(uplink.Caps{MaxInFlight: window, KeepAlive: t.link.keepAlive, LetsGo: true})
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

// session3 is a connection in MQTT 3.1.1 that is up.
type session3 struct {
	client *client3
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
func (s *session3) Send(ctx context.Context, m uplink.Message) error {
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
func (s *session3) publish(topic string, payload []byte) (token paho.Token, err error) {
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
func (s *session3) report(h uplink.Handler, acks <-chan told) {
	for {
		select {
		case p := <-s.pending:
			if !s.await(p, h, acks) {
				return
			}
		case a := <-acks:
			a.tell(h)
		case <-s.over:
			s.drain(h)
			return
		}
	}
}

// await waits for one message's result. It returns false when the session is
// over.
func (s *session3) await(p published, h uplink.Handler, acks <-chan told) bool {
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
			a.tell(h)
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
func (s *session3) fail(err error) {
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
func (s *session3) drain(h uplink.Handler) {
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

func (s *session3) accept(p published, h uplink.Handler) {
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

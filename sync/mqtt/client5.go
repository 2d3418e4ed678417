package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// client5 is one connection that speaks MQTT 5: the library's packets, and our own
// loops around them. The library's client has one goroutine for each publish, loses
// their order, acknowledges on a timer, and waits in places that nobody can end.
//
// A connection is made by connect5, and then runs until it is lost or closed. What is heard is told to onMessage and onPuback, by one goroutine at a time.
type client5 struct {
	link *link
	opening
	raw     net.Conn
	in      frames
	beat    *heartbeat
	granted granted
	acks    ackQueue

	out     sync.Mutex // keeps packets apart, and guards scratch
	scratch []byte

	once  sync.Once
	gone  chan struct{} // closed when the connection is lost or closed
	err   error         // why, valid then
	loops sync.WaitGroup
}

// opening is what one side wants of a connection.
type opening struct {
	topics    []string      // to subscribe to
	needed    int           // so many of them; a refusal of the others is no matter
	receive   uint16        // messages that may come without our acknowledgement
	expiry    time.Duration // of the session at the server, after the connection
	onMessage func(message)
	onPuback  func(id uint16, r reason, said string)
}

// granted is what the server said it can do.
type granted struct {
	keepAlive time.Duration
	inFlight  int // messages without a PUBACK
	packet    int // bytes of a packet that it takes
	aliases   int
	shared    bool // subscriptions
	resumed   bool // the server still had the session
}

// message is one that came. ack may be called once, at any time.
type message struct {
	topic   string
	payload []byte
	ack     func()
}

// connect5 dials, logs in and subscribes. The caller must close the client.
func (l *link) connect5(ctx context.Context, o opening) (*client5, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, errNoAnswer)
	defer cancel()
	raw, err := l.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect to %s: %w", l, err)
	}
	c := &client5{
		link: l, opening: o, raw: raw, in: frames{in: bufio.NewReaderSize(raw, readBuffer)},
		acks: ackQueue{wake: make(chan struct{}, 1), most: math.MaxUint16}, gone: make(chan struct{}),
	}
	c.beat = newHeartbeat(l.keepAlive)
	err = c.handshake(ctx, c.login)
	if err == nil {
		l.trace.loggedIn("MQTT 5")
	}
	if err == nil && len(o.topics) > 0 {
		if err = c.handshake(ctx, c.subscribe); err == nil {
			l.trace.subscribed(o.topics[0])
		}
	}
	if err != nil {
		c.lose(err)
		if _, refused := errors.AsType[*uplink.RefusedError](err); refused {
			return nil, err
		}
		return nil, fmt.Errorf("connect to %s: %w", l, err)
	}
	return c, nil
}

// run starts what a connection needs while it is up.
func (c *client5) run() {
	c.loops.Go(func() { c.lose(c.listen()) })
	c.loops.Go(c.acknowledge)
	c.loops.Go(func() {
		if err := c.beat.run(c.gone, func() error { return c.write([]byte{0xc0, 0}) }); err != nil {
			c.lose(err)
		}
	})
}

func (c *client5) listen() error {
	for {
		f, err := c.next()
		if err != nil {
			return err
		}
		if err := c.handle(f); err != nil {
			return err
		}
	}
}

func (c *client5) next() (frame, error) {
	f, err := c.in.next()
	c.beat.noteHeard()
	return f, err
}

// handle takes a packet that may come at any time.
func (c *client5) handle(f frame) error {
	switch f.kind {
	case typePingresp:
		return nil
	case typePuback:
		id, r, said, err := parsePuback(f.body)
		if err == nil {
			c.onPuback(id, r, said)
		}
		return err
	case typePublish:
		return c.arrived(f)
	case typeDisconnect:
		d := packets.Disconnect{Properties: &packets.Properties{}}
		if len(f.body) > 0 {
			if err := unpack(&d, f.body); err != nil {
				return err
			}
		}
		return c.link.ended(reason(d.ReasonCode), d.Properties.ReasonString, d.Properties.ServerReference)
	default:
		return fmt.Errorf("unexpected packet of type %d", f.kind)
	}
}

func (c *client5) arrived(f frame) error {
	in, err := parsePublish(f)
	if err != nil {
		return err
	}
	m := message{topic: in.topic, payload: in.payload, ack: func() {}}
	if in.id != 0 {
		// More than our Receive Maximum is tolerated, for not every server heeds it;
		// what takes them has bounds of its own.
		n, ok := c.acks.add(in.id)
		if !ok {
			_ = c.write([]byte{byte(typeDisconnect) << 4, 2, byte(receiveExceeded), 0})
			return errors.New("the server sent more messages than there are numbers")
		}
		m.ack = func() { c.acks.done(n) }
	}
	c.onMessage(m)
	return nil
}

// acknowledge sends what was acknowledged, until the connection ends.
func (c *client5) acknowledge() {
	for {
		select {
		case <-c.acks.wake:
		case <-c.gone:
			return
		}
		if err := c.sendAcks(); err != nil {
			c.lose(err)
		}
	}
}

func (c *client5) sendAcks() error {
	var room [64 * 4]byte
	for {
		b := c.acks.take(room[:0])
		if len(b) == 0 {
			return nil
		}
		if err := c.write(b); err != nil {
			return err
		}
	}
}

// write sends whole packets.
func (c *client5) write(b []byte) error {
	c.out.Lock()
	defer c.out.Unlock()
	_, err := boundedWrite(c.raw, b)
	c.beat.noteWrote()
	return err
}

// publication is a message to be sent at QoS 1.
type publication struct {
	topic   string
	id      uint16
	props   []byte // packed
	payload []byte
}

// size returns the bytes of the packet after its fixed header.
func (p *publication) size() int {
	n := len(p.props)
	return 2 + len(p.topic) + 2 + len(appendLength(nil, n)) + n + len(p.payload)
}

// send returns when the message is in the socket, or cannot get there; then the
// connection is of no use any more.
func (c *client5) send(p publication) error {
	size := p.size()
	if size+5 > c.granted.packet {
		return fmt.Errorf("a message of %d bytes is over the server's limit of %d", size+5, c.granted.packet)
	}
	c.out.Lock()
	defer c.out.Unlock()
	b := c.scratch[:0]
	b = append(b, byte(typePublish)<<4|1<<1)
	b = appendLength(b, size)
	b = append(b, byte(len(p.topic)>>8), byte(len(p.topic)))
	b = append(b, p.topic...)
	b = append(b, byte(p.id>>8), byte(p.id))
	b = appendLength(b, len(p.props))
	b = append(b, p.props...)
	first := min(len(p.payload), max(writeChunk-len(b), 0)) // of the payload goes in the same write
	b = append(b, p.payload[:first]...)
	c.scratch = b
	_, err := boundedWrite(c.raw, b)
	if err == nil {
		_, err = boundedWrite(c.raw, p.payload[first:])
	}
	c.beat.noteWrote()
	return err
}

// lose ends the connection; the first reason stays.
func (c *client5) lose(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.gone)
		_ = c.raw.Close()
	})
}

// fail ends the connection because of a write. When it was closed under the write, the
// reader is about to say why, which is the better reason.
func (c *client5) fail(err error) {
	if errors.Is(err, net.ErrClosed) {
		late := time.NewTimer(goodbyeTimeout)
		defer late.Stop()
		select {
		case <-c.gone:
		case <-late.C:
		}
	}
	c.lose(err)
}

// ended implements connection.
func (c *client5) ended() <-chan struct{} { return c.gone }

// why says how the connection ended; valid once gone is closed.
func (c *client5) why() error { return fmt.Errorf("connection to %s lost: %w", c.link, c.err) }

var errClosed = errors.New("closed")

// close says goodbye, if anybody still listens, and ends all goroutines of the
// connection. It takes goodbyeTimeout at most.
func (c *client5) close() {
	select {
	case <-c.gone:
	default:
		stop := time.AfterFunc(goodbyeTimeout, func() { _ = c.raw.Close() })
		if c.sendAcks() == nil {
			_ = c.write([]byte{byte(typeDisconnect) << 4, 2, 0, 0})
		}
		stop.Stop()
	}
	c.lose(errClosed)
	c.loops.Wait()
}

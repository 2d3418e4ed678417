package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readBuffer = 16 << 10
	writeChunk = 8 << 10 // bytes that the peer must take within the write timeout
	maxPacket  = 1 << 20 // bytes of body of a packet that is read
)

// conn is the socket as the library sees it. It bounds every write, saves the
// library its byte-wise system calls, and keeps packets from it that it would
// believe, see [guard].
type conn struct {
	net.Conn
	in    *bufio.Reader
	guard guard
	beat  *heartbeat

	// wrote is told when a PUBLISH has been written; it holds one word.
	wrote chan struct{}
	out   sync.Mutex // keeps packets of several goroutines apart

	gate   sync.Mutex // guards broken, and is held while a message is handed over
	broken bool       // reading has failed

	reason atomic.Pointer[error] // why it was made to fail
}

// handOver calls publish unless reading has failed. A read error that comes
// meanwhile is held back until publish returns: the library's Publish would wait
// for its full timeout if the connection were torn down under it.
func (c *conn) handOver(publish func()) error {
	c.gate.Lock()
	defer c.gate.Unlock()
	if c.broken {
		return net.ErrClosed
	}
	publish()
	return nil
}

// breakDown returns why reading failed, err if nobody knows better.
func (c *conn) breakDown(err error) error {
	c.gate.Lock()
	defer c.gate.Unlock()
	c.broken = true
	if why := c.reason.Load(); why != nil {
		return *why
	}
	return err
}

// newConn wraps c for a client that subscribes once, to so many filters.
func newConn(c net.Conn, filters int, keepAlive time.Duration) *conn {
	return &conn{
		Conn:  c,
		in:    bufio.NewReaderSize(c, readBuffer),
		guard: guard{filters: filters},
		beat:  newHeartbeat(keepAlive),
		wrote: make(chan struct{}, 1),
	}
}

// Read is called by one goroutine at a time.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.beat.noteHeard()
	if bad := c.guard.check(b[:n]); bad != nil {
		// Nothing of the packet may get through, or io.ReadFull drops the error.
		n, err = 0, bad
	}
	if err != nil {
		err = c.breakDown(err)
	}
	return n, err
}

// abandon makes the connection fail with err as a dead one does. Close would not do:
// the library takes that for its own doing and never reports the connection lost.
func (c *conn) abandon(err error) {
	// Not under gate, which a publish may hold that the dead peer does not take.
	c.reason.CompareAndSwap(nil, &err)
	_ = c.SetReadDeadline(time.Unix(1, 0))
}

// ping asks the server for a sign of life. The library does that, too, but later than
// it was told and not while it waits for a write; so its own keep-alive is off.
func (c *conn) ping() error {
	_, err := c.Write([]byte{byte(typePingreq) << 4, 0})
	return err
}

// Write takes one whole packet. It is bounded, see [boundedWrite]: the library bounds
// publishes only; acknowledgements, pings and goodbyes could block for ever.
func (c *conn) Write(b []byte) (int, error) {
	c.out.Lock()
	defer c.out.Unlock()
	if len(b) > 0 && packetType(b[0]>>4) == typeConnect {
		b = withKeepAlive(b, c.beat.keepAlive)
	}
	written, err := boundedWrite(c.Conn, b)
	c.beat.noteWrote()
	if err != nil {
		return written, err
	}
	if len(b) > 0 && packetType(b[0]>>4) == typePublish {
		select {
		case c.wrote <- struct{}{}:
		default:
		}
	}
	return written, nil
}

// withKeepAlive writes the keep-alive into a CONNECT: where the library does not ping,
// it does not say either that somebody does.
func withKeepAlive(connect []byte, d time.Duration) []byte {
	const offset = 2 + 4 + 1 + 1 // name, level and flags
	at := 1
	for at < len(connect) && connect[at]&0x80 != 0 {
		at++
	}
	at += 1 + offset
	out := slices.Clone(connect)
	if at+2 <= len(out) {
		binary.BigEndian.PutUint16(out[at:], uint16(d/time.Second))
	}
	return out
}

// SetWriteDeadline does nothing: [conn.Write] sets its own, and the library
// would lift it while another goroutine writes.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// guard follows the framing of MQTT packets and refuses what a server has no
// reason to send. The library allocates what a packet claims to hold before it
// reads it, panics on a SUBACK with more answers than questions, and completes a
// publish on any SUBACK, UNSUBACK or PUBCOMP that bears its number: none of these
// may reach it.
type guard struct {
	filters int  // asked for in the one SUBSCRIBE
	suback  bool // seen

	kind   packetType
	length int // of the body, so far
	shift  uint
	body   int // bytes of the body still to come
	state  guardState
}

type packetType byte

const (
	typeConnect    packetType = 1
	typeConnack    packetType = 2
	typePublish    packetType = 3
	typePuback     packetType = 4
	typeSuback     packetType = 9
	typePingreq    packetType = 12
	typePingresp   packetType = 13
	typeDisconnect packetType = 14
)

type guardState uint8

const (
	wantType guardState = iota
	wantLength
	wantBody
)

// check looks at the bytes that were read next.
func (g *guard) check(b []byte) error {
	for len(b) > 0 {
		switch g.state {
		case wantType:
			if err := g.begin(packetType(b[0] >> 4)); err != nil {
				return err
			}
			b = b[1:]
		case wantLength:
			if err := g.digit(b[0]); err != nil {
				return err
			}
			b = b[1:]
		case wantBody:
			n := min(len(b), g.body)
			g.body -= n
			b = b[n:]
		}
		if g.state == wantBody && g.body == 0 {
			g.state = wantType
		}
	}
	return nil
}

// begin takes the type of the next packet.
func (g *guard) begin(kind packetType) error {
	switch kind {
	case typeConnack, typePublish, typePuback, typePingresp:
	case typeSuback:
		if g.suback || g.filters == 0 {
			return errors.New("suback that nobody asked for")
		}
		g.suback = true
	default:
		return fmt.Errorf("unexpected packet of type %d", kind)
	}
	g.kind, g.length, g.shift, g.state = kind, 0, 0, wantLength
	return nil
}

// digit takes one byte of the length: seven bits, lowest first.
func (g *guard) digit(d byte) error {
	g.length |= int(d&0x7f) << g.shift
	g.shift += 7
	switch {
	case d&0x80 != 0 && g.shift >= 28:
		return errors.New("packet length of more than four bytes")
	case d&0x80 != 0:
		return nil
	case g.length > maxPacket:
		return fmt.Errorf("packet of %d bytes is over %d", g.length, maxPacket)
	case g.kind == typeSuback && g.length != 2+g.filters:
		return fmt.Errorf("suback of %d bytes is malformed", g.length)
	}
	g.body, g.state = g.length, wantBody
	return nil
}

package mqtt_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// script is a server that misbehaves as a test wants it to. Its dial function
// connects through a pipe in memory; each connection is played by play.
type script struct {
	play func(p *peer)
	wg   sync.WaitGroup
}

func (s *script) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	s.wg.Go(func() {
		defer far.Close()
		s.play(&peer{far})
	})
	return near, nil
}

// peer is the server's end of a connection. Its methods report false when the
// client is gone.
type peer struct{ net.Conn }

func (p *peer) read() (packets.ControlPacket, bool) {
	pk, err := packets.ReadPacket(p)
	return pk, err == nil
}

func (p *peer) send(pk packets.ControlPacket) bool { return pk.Write(p) == nil }

// login takes CONNECT and answers with code.
func (p *peer) login(code byte) bool {
	if _, ok := p.read(); !ok {
		return false
	}
	ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	ack.ReturnCode = code
	return p.send(ack)
}

// subscription takes SUBSCRIBE and answers with code.
func (p *peer) subscription(code byte) bool {
	pk, ok := p.read()
	if !ok {
		return false
	}
	sub, ok := pk.(*packets.SubscribePacket)
	if !ok {
		return false
	}
	ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	ack.MessageID = sub.MessageID
	for range sub.Topics {
		ack.ReturnCodes = append(ack.ReturnCodes, code)
	}
	return p.send(ack)
}

func (p *peer) puback(id uint16) bool {
	ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	ack.MessageID = id
	return p.send(ack)
}

// publishes calls f with each PUBLISH, answers pings, and returns when the client
// is gone or f returns false.
func (p *peer) publishes(f func(*packets.PublishPacket) bool) {
	for {
		pk, ok := p.read()
		if !ok {
			return
		}
		switch pk := pk.(type) {
		case *packets.PublishPacket:
			if !f(pk) {
				return
			}
		case *packets.PingreqPacket:
			if !p.send(packets.NewControlPacket(packets.Pingresp)) {
				return
			}
		case *packets.DisconnectPacket:
			return
		}
	}
}

// swallow reads and answers nothing until the client is gone.
func (p *peer) swallow() { _, _ = io.Copy(io.Discard, p) }

// log is a handler that remembers what it was told.
type log struct {
	mu       sync.Mutex
	ups      []uplink.Caps
	accepted []uint64
	others   []uplink.Result
	acks     []string
	changed  chan struct{} // told after each call
	ended    bool
	late     int // calls after the session ended
}

func newLog() *log { return &log{changed: make(chan struct{}, 1)} }

func (l *log) note(f func()) {
	l.mu.Lock()
	if l.ended {
		l.late++
	}
	f()
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *log) Up(c uplink.Caps) { l.note(func() { l.ups = append(l.ups, c) }) }
func (l *log) Ack(b []byte)     { l.note(func() { l.acks = append(l.acks, string(b)) }) }
func (l *log) Result(r uplink.Result) {
	l.note(func() {
		if r.Class == uplink.Accepted {
			l.accepted = append(l.accepted, r.ID)
		} else {
			l.others = append(l.others, r)
		}
	})
}

func (l *log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// wait returns when done holds, or fails the test after a while.
func (l *log) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		l.mu.Lock()
		ok := done()
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-l.changed:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// link returns a configuration that s answers to.
func newTransport(t *testing.T, s *script, o mqtt.Options) *mqtt.Transport {
	t.Helper()
	o.Device, o.Dial = "gw1", s.dial
	tr, err := mqtt.New(uplink.LinkConfig{URL: "mqtt://broker", KeepAlive: 10 * time.Second, Protocol: uplink.ProtocolMQTT3}, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// sendAll sends messages 1 to n on lane live and then waits for the session's
// end. It returns Send's first error.
func sendAll(ctx context.Context, s uplink.Session, n int) error {
	for i := range n {
		m := uplink.Message{ID: uint64(i + 1), Lane: uplink.LaneLive, Payload: []byte("payload")}
		if err := s.Send(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/gorilla/websocket"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// versionError is a server that does not speak this version of the protocol, or hung
// up instead of an answer, which older servers do.
type versionError struct{ err error }

func (e *versionError) Error() string { return e.err.Error() }
func (e *versionError) Unwrap() error { return e.err }
func (e *versionError) Hint() string {
	return `if the server does not speak MQTT 5, set destinations[].links[].protocol: "3.1.1"`
}

// handshake does something before run, which ends with ctx at the latest.
func (c *client5) handshake(ctx context.Context, do func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	err := do()
	if !stop() || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// login sends CONNECT and takes CONNACK.
func (c *client5) login() error {
	var b bytes.Buffer
	if _, err := c.connectPacket().WriteTo(&b); err != nil {
		return err
	}
	if err := c.write(b.Bytes()); err != nil {
		return hungUp(err)
	}
	f, err := c.next()
	if err != nil {
		return hungUp(err)
	}
	if f.kind != typeConnack {
		return fmt.Errorf("packet of type %d instead of an answer", f.kind)
	}
	if len(f.body) == 2 { // as MQTT 3.1.1 has it, which is how such a server says no
		return &versionError{errors.New("the server answered in MQTT 3.1.1")}
	}
	ack := packets.Connack{Properties: &packets.Properties{}}
	if err := unpack(&ack, f.body); err != nil {
		return err
	}
	if err := c.loggedIn(reason(ack.ReasonCode), ack.Properties); err != nil {
		return err
	}
	c.granted.resumed = ack.SessionPresent
	return nil
}

func (c *client5) connectPacket() *packets.Connect {
	l := c.link
	biggest, expiry := uint32(maxPacket), uint32(min(c.expiry/time.Second, math.MaxUint32))
	return &packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: l.clientID,
		CleanStart: l.clean, KeepAlive: uint16(l.keepAlive / time.Second),
		UsernameFlag: l.username != "", Username: l.username,
		PasswordFlag: !l.password.IsZero(), Password: []byte(l.password.Reveal()),
		Properties: &packets.Properties{ReceiveMaximum: &c.receive, MaximumPacketSize: &biggest, SessionExpiryInterval: &expiry},
	}
}

// loggedIn takes what CONNACK says.
func (c *client5) loggedIn(r reason, p *packets.Properties) error {
	if r == unsupportedVersion {
		return &versionError{errors.New(r.with(p.ReasonString))}
	}
	if r.failed() {
		return c.link.refusedLogin(r, p.ReasonString, p.ServerReference)
	}
	if p.MaximumQOS != nil && *p.MaximumQOS == 0 {
		return uplink.Refused("it acknowledges no messages (maximum quality of service 0)",
			"allow quality of service 1 at the broker, or use another in destinations[].links[].url")
	}
	c.granted = granted{keepAlive: c.link.keepAlive, inFlight: window, packet: math.MaxInt32, shared: true}
	if p.ServerKeepAlive != nil && *p.ServerKeepAlive > 0 {
		c.granted.keepAlive = min(c.granted.keepAlive, time.Duration(*p.ServerKeepAlive)*time.Second)
	}
	if p.ReceiveMaximum != nil {
		if *p.ReceiveMaximum == 0 {
			return errors.New("malformed packet: receive maximum of 0")
		}
		c.granted.inFlight = min(c.granted.inFlight, int(*p.ReceiveMaximum))
	}
	if p.MaximumPacketSize != nil {
		c.granted.packet = int(min(*p.MaximumPacketSize, math.MaxInt32))
	}
	if p.TopicAliasMaximum != nil {
		c.granted.aliases = int(*p.TopicAliasMaximum)
	}
	if p.SharedSubAvailable != nil {
		c.granted.shared = *p.SharedSubAvailable != 0
	}
	c.beat = newHeartbeat(c.granted.keepAlive)
	return nil
}

// hungUp marks a connection that the peer ended instead of an answer: servers that do
// not know the version do that.
func hungUp(err error) error {
	var closed *websocket.CloseError
	op, isOp := errors.AsType[*net.OpError](err)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.As(err, &closed) ||
		isOp && (op.Op == "read" || op.Op == "write") && !op.Timeout() {
		return &versionError{fmt.Errorf("hung up on our login: %w", err)}
	}
	return err
}

// subscribe asks for the topics at QoS 1 and waits for the server's word.
func (c *client5) subscribe() error {
	const id = math.MaxUint16 // far from those that mochi gives, see awaitSuback
	s := packets.Subscribe{PacketID: id, Properties: &packets.Properties{}}
	for _, t := range c.topics {
		if strings.HasPrefix(t, "$share/") && !c.granted.shared {
			return uplink.Refused("it has no shared subscriptions", "use a broker that has, or one receiver without a group")
		}
		s.Subscriptions = append(s.Subscriptions, packets.SubOptions{Topic: t, QoS: 1})
	}
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		return err
	}
	if err := c.write(b.Bytes()); err != nil {
		return err
	}
	return c.awaitSuback(id)
}

func (c *client5) awaitSuback(id uint16) error {
	for {
		f, err := c.next()
		if err != nil {
			return err
		}
		if f.kind != typeSuback { // messages of the session may come before it
			if err := c.handle(f); err != nil {
				return err
			}
			continue
		}
		ack := packets.Suback{Properties: &packets.Properties{}}
		if err := unpack(&ack, f.body); err != nil {
			return err
		}
		if ack.PacketID != id || len(ack.Reasons) != len(c.topics) {
			return errors.New("malformed packet: suback of another subscription")
		}
		for i, code := range ack.Reasons {
			r := reason(code)
			if r == numberInUse && c.granted.resumed {
				// mochi counts the messages of both directions in one space of numbers,
				// and waits for our PUBACK of one with this number. It has the
				// subscription from before, then.
				continue
			}
			if r.failed() && i < c.needed {
				return uplink.Refused("may not subscribe to "+c.topics[i]+": "+r.with(ack.Properties.ReasonString),
					"let the broker's access list allow it to the user in destinations[].links[].username")
			}
		}
		return nil
	}
}

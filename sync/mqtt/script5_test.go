package mqtt_test

import (
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// peer5 is the server's end of a connection in MQTT 5.
type peer5 struct{ *peer }

// five plays a server that speaks MQTT 5.
func five(play func(p *peer5)) *script {
	return &script{play: func(p *peer) { play(&peer5{p}) }}
}

func newTransport5(t *testing.T, s *script, o mqtt.Options) *mqtt.Transport {
	t.Helper()
	return newLinkTransport(t, s, uplink.LinkConfig{Protocol: uplink.ProtocolMQTT5}, o)
}

// newLinkTransport completes a link whose server is s.
func newLinkTransport(t *testing.T, s *script, l uplink.LinkConfig, o mqtt.Options) *mqtt.Transport {
	t.Helper()
	o.Device, o.Dial = "gw1", s.dial
	l.URL, l.KeepAlive = "mqtt://broker", 10*time.Second
	tr, err := mqtt.New(l, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (p *peer5) read() (*packets.ControlPacket, bool) {
	pk, err := packets.ReadPacket(p)
	return pk, err == nil
}

// login takes CONNECT and answers with code and properties; it returns the CONNECT.
func (p *peer5) login(code byte, props packets.Properties) *packets.Connect {
	pk, ok := p.read()
	if !ok {
		return nil
	}
	c, ok := pk.Content.(*packets.Connect)
	if !ok || c.ProtocolVersion != 5 {
		return nil
	}
	ack := packets.Connack{ReasonCode: code, Properties: &props}
	if _, err := ack.WriteTo(p); err != nil {
		return nil
	}
	return c
}

// subscription takes SUBSCRIBE and answers with a code for each topic, the last one for
// those that are left.
func (p *peer5) subscription(codes ...byte) bool {
	pk, ok := p.read()
	if !ok {
		return false
	}
	sub, ok := pk.Content.(*packets.Subscribe)
	if !ok {
		return false
	}
	ack := packets.Suback{PacketID: sub.PacketID, Properties: &packets.Properties{}}
	for i := range sub.Subscriptions {
		ack.Reasons = append(ack.Reasons, codes[min(i, len(codes)-1)])
	}
	_, err := ack.WriteTo(p)
	return err == nil
}

func (p *peer5) puback(id uint16, code byte, said string) bool {
	ack := packets.Puback{PacketID: id, ReasonCode: code, Properties: &packets.Properties{ReasonString: said}}
	_, err := ack.WriteTo(p)
	return err == nil
}

func (p *peer5) disconnect(code byte, props packets.Properties) {
	d := packets.Disconnect{ReasonCode: code, Properties: &props}
	_, _ = d.WriteTo(p)
}

// publishes calls f with each PUBLISH, answers pings, and returns when the client is
// gone or f returns false.
func (p *peer5) publishes(f func(*packets.Publish) bool) {
	for {
		pk, ok := p.read()
		if !ok {
			return
		}
		switch pk := pk.Content.(type) {
		case *packets.Publish:
			if !f(pk) {
				return
			}
		case *packets.Pingreq:
			if _, err := packets.NewControlPacket(packets.PINGRESP).WriteTo(p); err != nil {
				return
			}
		case *packets.Disconnect:
			return
		}
	}
}

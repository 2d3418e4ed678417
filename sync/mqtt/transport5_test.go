package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
	v3 "github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// hintOf returns the hint of an error.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// What the server says of a message decides what is done with it.
func TestReasonCodes(t *testing.T) {
	for _, tt := range []struct {
		code   byte
		said   string
		want   uplink.Class
		text   string
		hintAt string
	}{
		{0x00, "", uplink.Accepted, "", ""},
		{0x00, "welcome", uplink.Accepted, "", ""},
		{0x01, "", uplink.Accepted, "", ""}, // mochi: the quality of service
		{0x10, "", uplink.NoReceiver, "no matching subscribers (0x10)", "no_subscriber: accept"},
		{0x80, "", uplink.Throttled, "unspecified error (0x80)", ""},
		{0x83, "", uplink.Poison, "implementation specific error (0x83)", ""},
		{0x87, "not for you", uplink.ConfigError, `ea/v1/default/gw1/d/live: not authorized (0x87): "not for you"`, "access list"},
		{0x90, "", uplink.ConfigError, "topic name invalid (0x90)", "access list"},
		{0x95, "", uplink.Poison, "packet too large (0x95)", "max_message"},
		{0x97, "slow\ndown\x1b[2J", uplink.Throttled, `quota exceeded (0x97): "slow\ndown\x1b[2J"`, ""},
		{0x99, "", uplink.Poison, "payload format invalid (0x99)", ""},
		{0xf0, "", uplink.Throttled, "reason 0xf0", ""},
		{0x97, strings.Repeat("x", 5000), uplink.Throttled, "xxx…", ""},
	} {
		t.Run(fmt.Sprintf("%02x", tt.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := five(func(p *peer5) {
					p.login(0, packets.Properties{})
					p.publishes(func(pk *packets.Publish) bool { return p.puback(pk.PacketID, tt.code, tt.said) })
				})
				h := newLog()
				_, err := session(t, s, newTransport5(t, s, mqtt.Options{}), h, time.Second, func(ctx context.Context, up uplink.Session) { _ = sendAll(ctx, up, 3) })
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("the session ended with %v", err)
				}
				if tt.want == uplink.Accepted {
					if len(h.accepted) != 3 {
						t.Errorf("accepted %v", h.accepted)
					}
					return
				}
				if len(h.others) != 3 || h.others[0].ID != 1 || h.others[0].Class != tt.want {
					t.Fatalf("results %+v, want three of class %s", h.others, tt.want)
				}
				if text := h.others[0].Err.Error(); !strings.Contains(text, tt.text) || len(text) > 500 {
					t.Errorf("error %q, want %q in it", text, tt.text)
				}
				if hint := hintOf(h.others[0].Err); !strings.Contains(hint, tt.hintAt) {
					t.Errorf("hint %q names no %s", hint, tt.hintAt)
				}
			})
		})
	}
}

// A number that is in use means that the two ends disagree: a new session is needed.
func TestNumberInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := five(func(p *peer5) {
			p.login(0, packets.Properties{})
			p.publishes(func(pk *packets.Publish) bool { return p.puback(pk.PacketID, 0x91, "") })
		})
		h := newLog()
		_, _ = session(t, s, newTransport5(t, s, mqtt.Options{}), h, time.Second, func(ctx context.Context, up uplink.Session) { _ = sendAll(ctx, up, 1) })
		if len(h.others) != 1 || h.others[0].Class != uplink.Unknown {
			t.Errorf("results %+v, want one of class unknown", h.others)
		}
	})
}

type verdict int

const (
	other verdict = iota
	refused
	busy
)

func verdictOf(err error) verdict {
	if _, ok := errors.AsType[*uplink.RefusedError](err); ok {
		return refused
	}
	if _, ok := errors.AsType[*uplink.BusyError](err); ok {
		return busy
	}
	return other
}

func TestLoginReasons(t *testing.T) {
	for _, tt := range []struct {
		code   byte
		props  packets.Properties
		want   verdict
		text   string
		hintAt string
	}{
		{0x80, packets.Properties{}, other, "unspecified error", ""},
		{0x82, packets.Properties{}, refused, "protocol error", "links[].protocol"},
		{0x84, packets.Properties{}, other, "unsupported protocol version", "links[].protocol"},
		{0x85, packets.Properties{}, refused, "edgeagent-default-gw1", "client_id"},
		{0x86, packets.Properties{}, refused, "bad user name or password", "username"},
		{0x87, packets.Properties{ReasonString: "away"}, refused, `not authorized (0x87): "away"`, "username"},
		{0x88, packets.Properties{}, busy, "server unavailable", ""},
		{0x89, packets.Properties{}, busy, "server busy", ""},
		{0x8a, packets.Properties{}, refused, "banned", "username"},
		{0x97, packets.Properties{}, busy, "quota exceeded", ""},
		{0x9c, packets.Properties{ServerReference: "other:1883"}, refused, `"other:1883"`, "links[].url"},
		{0x9d, packets.Properties{}, refused, "server moved", "links[].url"},
		{0x9f, packets.Properties{}, busy, "connection rate exceeded", ""},
		{0x00, packets.Properties{MaximumQOS: new(byte)}, refused, "maximum quality of service 0", "quality of service 1"},
		{0x00, packets.Properties{MaximumPacketSize: new(uint32(1000))}, refused, "no packets over 1000 bytes", "limit"},
		{0x00, packets.Properties{ReceiveMaximum: new(uint16)}, other, "receive maximum of 0", ""},
	} {
		t.Run(fmt.Sprintf("%02x", tt.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := five(func(p *peer5) { p.login(tt.code, tt.props); p.swallow() })
				h := newLog()
				_, err := session(t, s, newTransport5(t, s, mqtt.Options{}), h, time.Minute, func(context.Context, uplink.Session) {})
				if got := verdictOf(err); got != tt.want {
					t.Errorf("verdict %d, want %d: %v", got, tt.want, err)
				}
				if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.Contains(hintOf(err), tt.hintAt) {
					t.Errorf("error %v (hint: %s), want %q and %q", err, hintOf(err), tt.text, tt.hintAt)
				}
				if len(h.ups) > 0 {
					t.Error("Up was called")
				}
			})
		})
	}
}

func TestDisconnectReasons(t *testing.T) {
	for _, tt := range []struct {
		code   byte
		want   verdict
		text   string
		hintAt string
	}{
		{0x00, other, "success", ""},
		{0x82, other, "protocol error", ""},
		{0x87, refused, "not authorized", "username"},
		{0x8b, other, "server shutting down", ""},
		{0x8d, other, "keep alive timeout", ""},
		{0x8e, other, "session taken over", "edgeagent-default-gw1"},
		{0x93, busy, "receive maximum exceeded", ""},
		{0x96, busy, "message rate too high", ""},
		{0x97, busy, "quota exceeded", ""},
		{0x9d, refused, "server moved (0x9d), to \"elsewhere\"", "links[].url"},
	} {
		t.Run(fmt.Sprintf("%02x", tt.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := five(func(p *peer5) {
					p.login(0, packets.Properties{})
					p.publishes(func(*packets.Publish) bool { return false })
					p.disconnect(tt.code, packets.Properties{ServerReference: "elsewhere"})
					p.swallow()
				})
				h := newLog()
				took, err := session(t, s, newTransport5(t, s, mqtt.Options{}), h, time.Minute, func(ctx context.Context, up uplink.Session) { _ = sendAll(ctx, up, 1) })
				if got := verdictOf(err); got != tt.want || took > time.Second {
					t.Errorf("verdict %d after %v, want %d: %v", got, took, tt.want, err)
				}
				if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.Contains(hintOf(err), tt.hintAt) {
					t.Errorf("error %v (hint: %s), want %q and %q", err, hintOf(err), tt.text, tt.hintAt)
				}
				if len(h.accepted)+len(h.others) > 0 {
					t.Error("a message without a PUBACK has a result")
				}
			})
		})
	}
}

// falls is a server that speaks only 3.1.1 and says so in its own way. It counts the
// logins in each version.
func falls(refuse func(p *peer), logins map[byte]int) *script {
	return &script{play: func(p *peer) {
		// Both versions begin alike: type, length, name, level.
		head := make([]byte, 9)
		if _, err := p.Read(head[:1]); err != nil {
			return
		}
		for n := 1; n < len(head); {
			m, err := p.Read(head[n:])
			if err != nil {
				return
			}
			n += m
		}
		logins[head[8]]++
		rest := make([]byte, int(head[1])-7)
		for n := 0; n < len(rest); {
			m, err := p.Read(rest[n:])
			if err != nil {
				return
			}
			n += m
		}
		if head[8] == 5 {
			refuse(p)
			return
		}
		p.send(v3.NewControlPacket(v3.Connack))
		p.publishes(func(pk *v3.PublishPacket) bool { return p.puback(pk.MessageID) })
	}}
}

func TestFallsBackTo311(t *testing.T) {
	for _, tt := range []struct {
		name   string
		refuse func(p *peer)
	}{
		{"says so in MQTT 5", func(p *peer) { _, _ = p.Write([]byte{0x20, 3, 0, 0x84, 0}) }},
		{"says so in MQTT 3.1.1", func(p *peer) { _, _ = p.Write([]byte{0x20, 2, 0, 1}) }},
		{"accepts in MQTT 3.1.1", func(p *peer) { _, _ = p.Write([]byte{0x20, 2, 0, 0}) }},
		{"hangs up", func(*peer) {}},
		{"hangs up in the middle", func(p *peer) { _, _ = p.Write([]byte{0x20}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logins := map[byte]int{}
				s := falls(tt.refuse, logins)
				tr := newLinkTransport(t, s, uplink.LinkConfig{}, mqtt.Options{})
				one := func() {
					h := newLog()
					_, err := session(t, s, tr, h, time.Second, func(ctx context.Context, up uplink.Session) { _ = sendAll(ctx, up, 2) })
					if !errors.Is(err, context.DeadlineExceeded) || len(h.accepted) != 2 {
						t.Errorf("session ended with %v, %d accepted", err, len(h.accepted))
					}
					if len(h.ups) != 1 || h.ups[0].ReasonCodes {
						t.Errorf("ups %+v, want one without reason codes", h.ups)
					}
				}
				one()
				one()
				if diff := cmp.Diff(map[byte]int{5: 1, 4: 2}, logins); diff != "" {
					t.Errorf("logins by version (-want +got):\n%s", diff)
				}
				time.Sleep(time.Hour)
				one() // perhaps the server was replaced
				if diff := cmp.Diff(map[byte]int{5: 2, 4: 3}, logins); diff != "" {
					t.Errorf("logins by version after an hour (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What is not a matter of the version, or may not be given way to, does not lead to
// 3.1.1, and a server that is down is not taken for an old one.
func TestDoesNotFallBack(t *testing.T) {
	hangUp := func(*peer) {}
	for _, tt := range []struct {
		name   string
		refuse func(p *peer)
		link   uplink.LinkConfig
		opts   mqtt.Options
		hintAt string
	}{
		{"not authorized", func(p *peer) { _, _ = p.Write([]byte{0x20, 3, 0, 0x87, 0}) }, uplink.LinkConfig{}, mqtt.Options{}, "username"},
		{"busy", func(p *peer) { _, _ = p.Write([]byte{0x20, 3, 0, 0x89, 0}) }, uplink.LinkConfig{}, mqtt.Options{}, ""},
		{"garbage", func(p *peer) { _, _ = p.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); p.swallow() }, uplink.LinkConfig{}, mqtt.Options{}, ""},
		{"protocol is fixed", hangUp, uplink.LinkConfig{Protocol: "5"}, mqtt.Options{}, `protocol: "3.1.1"`},
		{"reasons are needed", hangUp, uplink.LinkConfig{}, mqtt.Options{NeedReasons: true}, `protocol: "3.1.1"`},
		{"never answers", func(p *peer) { p.swallow() }, uplink.LinkConfig{}, mqtt.Options{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logins := map[byte]int{}
				s := falls(tt.refuse, logins)
				h := newLog()
				_, err := session(t, s, newLinkTransport(t, s, tt.link, tt.opts), h, time.Minute, func(context.Context, uplink.Session) {})
				if err == nil || len(h.ups) > 0 || !strings.Contains(hintOf(err), tt.hintAt) {
					t.Errorf("session ended with %v (hint: %s), %d ups", err, hintOf(err), len(h.ups))
				}
				if logins[4] > 0 {
					t.Errorf("logins by version %v", logins)
				}
			})
		})
	}
}

// A server that hangs up on both versions is down, and tried in 5 again.
func TestDownIsNotOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down, logins := true, map[byte]int{}
		s := &script{}
		s.play = func(p *peer) {
			if down {
				p.Close()
				return
			}
			five(func(p *peer5) { logins[5]++; p.login(0, packets.Properties{}); p.swallow() }).play(p)
		}
		tr := newLinkTransport(t, s, uplink.LinkConfig{}, mqtt.Options{})
		if _, err := session(t, s, tr, newLog(), time.Minute, func(context.Context, uplink.Session) {}); err == nil {
			t.Error("a session with a server that is down ended without an error")
		}
		down = false
		h := newLog()
		_, _ = session(t, s, tr, h, time.Second, func(context.Context, uplink.Session) {})
		if logins[5] != 1 || len(h.ups) != 1 || !h.ups[0].ReasonCodes {
			t.Errorf("%d logins in MQTT 5, ups %+v", logins[5], h.ups)
		}
	})
}

func TestServerLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, most, pings := 0, 0, 0
		var ids []uint16
		s := five(func(p *peer5) {
			p.login(0, packets.Properties{ReceiveMaximum: new(uint16(5)), MaximumPacketSize: new(uint32(10_000)), ServerKeepAlive: new(uint16(4))})
			for {
				pk, ok := p.read()
				if !ok {
					return
				}
				switch pk := pk.Content.(type) {
				case *packets.Publish:
					open++
					most = max(most, open)
					if ids = append(ids, pk.PacketID); open == 5 {
						for _, id := range ids {
							open--
							p.puback(id, 0, "")
						}
						ids = nil
					}
				case *packets.Pingreq:
					pings++
					_, _ = packets.NewControlPacket(packets.PINGRESP).WriteTo(p)
				}
			}
		})
		h := newLog()
		_, err := session(t, s, newTransport5(t, s, mqtt.Options{}), h, 41*time.Second, func(ctx context.Context, up uplink.Session) {
			if err := sendAll(ctx, up, 100); err != nil {
				t.Errorf("send: %v", err)
			}
		})
		if !errors.Is(err, context.DeadlineExceeded) || len(h.accepted) != 100 || most != 5 {
			t.Errorf("session ended with %v, %d accepted, at most %d at once", err, len(h.accepted), most)
		}
		if pings != 10 {
			t.Errorf("%d pings in 40 s at the server's keep-alive of 4 s", pings)
		}
		if c := h.ups[0]; c.MaxInFlight != 5 || c.MaxMessage > 9800 || c.MaxMessage < 9000 || c.KeepAlive != 4*time.Second || !c.ReasonCodes {
			t.Errorf("caps %+v", c)
		}
		// The largest message that the caps allow fits, whatever is said beside it.
		sizes := []int{h.ups[0].MaxMessage}
		h = newLog()
		tr := newLinkTransport(t, s, uplink.LinkConfig{Protocol: "5", MessageExpiry: time.Hour}, mqtt.Options{})
		_, err = session(t, s, tr, h, time.Second, func(ctx context.Context, up uplink.Session) {
			for i := range 5 {
				m := textMessage(uint64(i+1), uplink.LaneBacklog)
				m.Payload = make([]byte, sizes[0])
				if err := up.Send(ctx, m); err != nil {
					t.Errorf("send: %v", err)
				}
			}
		})
		if !errors.Is(err, context.DeadlineExceeded) || len(h.accepted) != 5 {
			t.Errorf("largest messages: session ended with %v, %d accepted", err, len(h.accepted))
		}
	})
}

// textMessage is one with everything that MQTT 5 can say beside it.
func textMessage(id uint64, l uplink.Lane) uplink.Message {
	return uplink.Message{
		ID: id, Lane: l, Payload: []byte("text"), ContentType: uplink.FormatSenMLCBOR, Encoding: "gzip",
		Identity: edgeagent.BatchHeader{Epoch: 0xfedcba9876543210, Run: 0xfedcba98, Stream: edgeagent.StreamTelemetry, First: 1<<53 - 1, Count: 4096},
	}
}

func TestWhatIsSaidBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		s := five(func(p *peer5) {
			p.login(0, packets.Properties{TopicAliasMaximum: new(uint16(3))})
			p.publishes(func(pk *packets.Publish) bool {
				x := pk.Properties
				line := pk.Topic + " " + x.ContentType
				if x.TopicAlias != nil {
					line += fmt.Sprintf(" alias=%d", *x.TopicAlias)
				}
				if x.MessageExpiry != nil {
					line += fmt.Sprintf(" expiry=%d", *x.MessageExpiry)
				}
				words := []string{line}
				for _, u := range x.User {
					words = append(words, u.Key+"="+u.Value)
				}
				got = append(got, strings.Join(words, " "))
				code := byte(0)
				if len(got) == 1 {
					code = 0x97
				}
				return p.puback(pk.PacketID, code, "")
			})
		})
		tr := newLinkTransport(t, s, uplink.LinkConfig{Protocol: "5", MessageExpiry: 90 * time.Second}, mqtt.Options{})
		_, _ = session(t, s, tr, newLog(), time.Minute, func(ctx context.Context, up uplink.Session) {
			block := uplink.Message{ID: 1, Lane: uplink.LaneLive, ContentType: uplink.FormatBlock, Identity: edgeagent.BatchHeader{Count: 1}}
			for _, m := range []uplink.Message{block, block, block, textMessage(1, uplink.LaneBacklog), textMessage(1, uplink.LaneAlarm), {Lane: uplink.LaneEvent, ContentType: "json"}} {
				if err := up.Send(ctx, m); err != nil {
					t.Error(err)
				}
				synctest.Wait()
			}
		})
		id := " application/senml+cbor"
		user := " content-encoding=gzip epoch=fedcba9876543210 run=fedcba98 stream=telemetry first=9007199254740991 count=4096"
		want := []string{
			"ea/v1/default/gw1/d/live  alias=3 expiry=90", // refused: nobody knows what became of the alias
			"ea/v1/default/gw1/d/live  alias=3 expiry=90",
			"  alias=3 expiry=90",
			"ea/v1/default/gw1/d/backlog" + id + " expiry=90" + user, // over the server's maximum of 3
			"ea/v1/default/gw1/d/alarm" + id + " alias=1" + user,
			"ea/v1/default/gw1/d/event application/x-ndjson alias=2",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
}

func TestConnectSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *packets.Connect
		s := five(func(p *peer5) { c = p.login(0, packets.Properties{}); p.swallow() })
		tr := newLinkTransport(t, s, uplink.LinkConfig{Username: "u", Password: edgeagent.NewSecret("p")}, mqtt.Options{})
		_, _ = session(t, s, tr, newLog(), time.Second, func(context.Context, uplink.Session) {})
		switch {
		case c == nil:
			t.Fatal("no CONNECT")
		case c.ClientID != "edgeagent-default-gw1" || c.Username != "u" || string(c.Password) != "p" || !c.CleanStart || c.KeepAlive != 10:
			t.Errorf("CONNECT %+v", c)
		case c.Properties.SessionExpiryInterval == nil || *c.Properties.SessionExpiryInterval != 0 || *c.Properties.ReceiveMaximum != 16 || *c.Properties.MaximumPacketSize != 1<<20:
			t.Errorf("properties %+v", c.Properties)
		}
	})
}

// A link that is dead without saying so is found within 15 s at a keep-alive of 10 s,
// whether messages are sent or not, in both versions.
func TestSilentLink(t *testing.T) {
	for _, protocol := range []string{uplink.ProtocolMQTT3, uplink.ProtocolMQTT5} {
		for _, every := range []time.Duration{0, time.Second, 10 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s every %v", protocol, every), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &script{play: func(p *peer) {
						if protocol == uplink.ProtocolMQTT5 {
							(&peer5{p}).login(0, packets.Properties{})
						} else {
							p.login(0)
						}
						p.swallow() // a hole: everything goes in and nothing comes out
					}}
					tr := newLinkTransport(t, s, uplink.LinkConfig{Protocol: protocol}, mqtt.Options{})
					took, err := session(t, s, tr, newLog(), time.Hour, func(ctx context.Context, up uplink.Session) {
						for every > 0 && up.Send(ctx, uplink.Message{Lane: uplink.LaneLive}) == nil {
							select {
							case <-time.After(every):
							case <-ctx.Done():
							}
						}
					})
					if err == nil || !strings.Contains(err.Error(), "does not answer a ping") || took > 15*time.Second {
						t.Errorf("noticed after %v: %v", took, err)
					}
				})
			})
		}
	}
}

// A link that is quiet and well stays up.
func TestQuietLink(t *testing.T) {
	for _, protocol := range []string{uplink.ProtocolMQTT3, uplink.ProtocolMQTT5} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{play: func(p *peer) {
					if protocol == uplink.ProtocolMQTT5 {
						p5 := &peer5{p}
						p5.login(0, packets.Properties{})
						p5.publishes(func(pk *packets.Publish) bool { return p5.puback(pk.PacketID, 0, "") })
						return
					}
					p.login(0)
					p.publishes(func(pk *v3.PublishPacket) bool { return p.puback(pk.MessageID) })
				}}
				tr := newLinkTransport(t, s, uplink.LinkConfig{Protocol: protocol}, mqtt.Options{})
				h := newLog()
				_, err := session(t, s, tr, h, 24*time.Hour, func(ctx context.Context, up uplink.Session) {
					for up.Send(ctx, uplink.Message{Lane: uplink.LaneLive}) == nil {
						time.Sleep(17 * time.Minute)
					}
				})
				if !errors.Is(err, context.DeadlineExceeded) || len(h.accepted) < 80 {
					t.Errorf("the session ended with %v, %d accepted", err, len(h.accepted))
				}
			})
		})
	}
}

func TestDeadServers5(t *testing.T) {
	up := func(p *peer5) { p.login(0, packets.Properties{}); p.subscription(1) }
	write := func(b ...byte) func(p *peer5) {
		return func(p *peer5) { up(p); _, _ = p.Write(b); p.swallow() }
	}
	for _, tt := range []struct {
		name   string
		play   func(p *peer5)
		within time.Duration
	}{
		{"never answers connect", func(p *peer5) { p.swallow() }, 15 * time.Second},
		{"never answers subscribe", func(p *peer5) { p.login(0, packets.Properties{}); p.swallow() }, 15 * time.Second},
		{"stops reading", func(p *peer5) { up(p); time.Sleep(time.Hour) }, 12 * time.Second},
		{"sends a huge packet", write(0x30, 0xff, 0xff, 0xff, 0x7f), time.Second},
		{"sends a length without end", write(0x30, 0xff, 0xff, 0xff, 0xff, 0xff), time.Second},
		{"answers a subscription that nobody made", write(0x90, 4, 0, 1, 0, 1), time.Second},
		{"sends a message at quality 2", write(0x34, 6, 0, 1, 't', 0, 1, 0), time.Second},
		{"sends a message without a topic", write(0x32, 5, 0, 0, 0, 1, 0), time.Second},
		{"sends a message with number 0", write(0x32, 6, 0, 1, 't', 0, 0, 0), time.Second},
		{"sends a message that is cut short", write(0x32, 3, 0, 9, 't'), time.Second},
		{"sends a property that is cut short", write(0x40, 6, 0, 1, 0x97, 9, 0x1f, 9), time.Second},
		{"sends a property of another packet", write(0x40, 6, 0, 1, 0x97, 2, 0x21, 9), time.Second},
		{"sends PUBREC", write(0x50, 2, 0, 1), time.Second},
		{"sends AUTH", write(0xf0, 2, 0x18, 0), time.Second},
		{"sends CONNACK again", write(0x20, 3, 0, 0, 0), time.Second},
		{"answers another subscription", func(p *peer5) {
			p.login(0, packets.Properties{})
			p.read()
			_, _ = p.Write([]byte{0x90, 5, 0, 7, 0, 1, 1})
			p.swallow()
		}, time.Second},
		{"answers half a subscription", func(p *peer5) {
			p.login(0, packets.Properties{})
			p.read()
			_, _ = p.Write([]byte{0x90, 4, 0xff, 0xff, 0, 1})
			p.swallow()
		}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := five(tt.play)
				h := newLog()
				took, err := session(t, s, newTransport5(t, s, mqtt.Options{Acks: true}), h, time.Hour, func(ctx context.Context, up uplink.Session) { _ = sendAll(ctx, up, 3) })
				if err == nil || errors.Is(err, context.DeadlineExceeded) || took > tt.within {
					t.Errorf("noticed after %v, want %v: %v", took, tt.within, err)
				}
				if len(h.accepted) > 0 {
					t.Errorf("accepted %v", h.accepted)
				}
			})
		})
	}
}

// hints is a handler that wants hints, too.
type hints struct {
	*log
	got []string
}

func (h *hints) Hint(p []byte) { h.note(func() { h.got = append(h.got, string(p)) }) }

// What comes on the ack topic and on the hint topic, before the session is up, too, goes
// where it belongs; a server may refuse hints.
func TestAckAndHintTopics(t *testing.T) {
	for _, hintCode := range []byte{1, 0x87} {
		t.Run(fmt.Sprintf("hints %02x", hintCode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pubacks := 0
				s := five(func(p *peer5) {
					p.login(0, packets.Properties{})
					send := func(id uint16, topic, payload string) {
						pk := packets.Publish{QoS: 1, PacketID: id, Topic: "ea/v1/default/gw1/" + topic, Payload: []byte(payload), Properties: &packets.Properties{}}
						_, _ = pk.WriteTo(p)
					}
					pk, _ := p.read()
					sub := pk.Content.(*packets.Subscribe)
					send(1, "ack", "early")
					send(2, "hint", "{}")
					ack := packets.Suback{PacketID: sub.PacketID, Reasons: []byte{1, hintCode}, Properties: &packets.Properties{}}
					_, _ = ack.WriteTo(p)
					send(3, "ack", strings.Repeat("x", 64<<10+1))
					send(4, "ack", "late")
					for {
						pk, ok := p.read()
						if !ok {
							return
						}
						if pk.Type == packets.PUBACK {
							pubacks++
						}
					}
				})
				h := &hints{log: newLog()}
				tr := newTransport5(t, s, mqtt.Options{Acks: true})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_ = tr.Session(ctx, h, func(context.Context, uplink.Session) {})
				s.wg.Wait()
				if diff := cmp.Diff([]string{"early", "late"}, h.acks); diff != "" {
					t.Errorf("acks (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]string{"{}"}, h.got); diff != "" {
					t.Errorf("hints (-want +got):\n%s", diff)
				}
				if pubacks != 4 || tr.Stats().RefusedAcks != 1 {
					t.Errorf("%d of 4 messages acknowledged, stats %+v", pubacks, tr.Stats())
				}
			})
		})
	}
}

func TestAckTopicRefused5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := five(func(p *peer5) { p.login(0, packets.Properties{}); p.subscription(0x87, 1); p.swallow() })
		h := newLog()
		_, err := session(t, s, newTransport5(t, s, mqtt.Options{Acks: true}), h, time.Minute, func(context.Context, uplink.Session) {})
		if verdictOf(err) != refused || !strings.Contains(err.Error(), "ea/v1/default/gw1/ack") || len(h.ups) > 0 {
			t.Errorf("session ended with %v", err)
		}
	})
}

// A goodbye is said, and what was done is acknowledged before.
func TestOrderlyEnd5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := byte(0xff)
		s := five(func(p *peer5) {
			p.login(0, packets.Properties{})
			for {
				pk, ok := p.read()
				if !ok {
					return
				}
				if last = pk.Type; last == packets.DISCONNECT && pk.Content.(*packets.Disconnect).ReasonCode != 0 {
					t.Errorf("DISCONNECT %v", pk.Content)
				}
			}
		})
		_, err := session(t, s, newTransport5(t, s, mqtt.Options{}), newLog(), 3*time.Second, func(ctx context.Context, up uplink.Session) {
			_ = sendAll(ctx, up, 5)
			<-ctx.Done()
		})
		if !errors.Is(err, context.DeadlineExceeded) || last != packets.DISCONNECT {
			t.Errorf("session ended with %v, the last packet was %d", err, last)
		}
	})
}

package mqtt_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// session runs one session in a bubble until it ends or for at most limit. When
// the bubble closes, synctest fails the test if any goroutine is left.
func session(t *testing.T, s *script, tr *mqtt.Transport, h *log, limit time.Duration, start func(context.Context, uplink.Session)) (took time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	err = tr.Session(ctx, h, start)
	h.end()
	took = time.Since(began)
	s.wg.Wait()
	synctest.Wait()
	if h.late > 0 {
		t.Errorf("handler called %d times after the session ended", h.late)
	}
	return took, err
}

// The library's own reconnect and store complete a token without an error when a
// connection is replaced. A server that never acknowledges must never lead to an
// accepted message, whatever happens to its connections.
func TestServerThatNeverAcksAcceptsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		received := 0
		s := &script{play: func(p *peer) {
			if p.login(packets.Accepted) {
				n := 0
				p.publishes(func(*packets.PublishPacket) bool { n++; received++; return n < 50 })
			}
		}}
		tr, h := newTransport(t, s, mqtt.Options{}), newLog()
		for range 5 {
			_, err := session(t, s, tr, h, time.Hour, func(ctx context.Context, up uplink.Session) {
				_ = sendAll(ctx, up, 64)
			})
			if err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("session ended with %v, want a lost connection", err)
			}
			h.ended = false
		}
		if received != 250 {
			t.Errorf("server received %d messages, want 250", received)
		}
		if len(h.accepted) != 0 || len(h.others) != 0 {
			t.Errorf("results without a PUBACK: accepted %v, others %v", h.accepted, h.others)
		}
	})
}

func TestResultsComeInOrderOfSending(t *testing.T) {
	tests := []struct {
		name string
		// order of the PUBACKs for ten messages, by index
		order []int
		want  []uint64
	}{
		{"in order", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{"reversed", []int{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{"repeated", []int{0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9}, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{"third missing", []int{0, 1, 3, 4, 5, 6, 7, 8, 9}, []uint64{1, 2}},
		{"first missing", []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{play: func(p *peer) {
					p.login(packets.Accepted)
					var ids []uint16
					p.publishes(func(pk *packets.PublishPacket) bool {
						if ids = append(ids, pk.MessageID); len(ids) < 10 {
							return true
						}
						for _, i := range tt.order {
							p.puback(ids[i])
						}
						p.puback(60000) // one that nobody waits for
						return true
					})
				}}
				tr, h := newTransport(t, s, mqtt.Options{}), newLog()
				_, err := session(t, s, tr, h, 5*time.Second, func(ctx context.Context, up uplink.Session) {
					if err := sendAll(ctx, up, 10); err != nil {
						t.Errorf("send: %v", err)
					}
				})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("session ended with %v, want its context's end", err)
				}
				if diff := cmp.Diff(tt.want, h.accepted); diff != "" {
					t.Errorf("accepted (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestConnectionLostMidway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{play: func(p *peer) {
			p.login(packets.Accepted)
			n := 0
			p.publishes(func(pk *packets.PublishPacket) bool {
				n++
				return p.puback(pk.MessageID) && n < 7
			})
		}}
		tr, h := newTransport(t, s, mqtt.Options{}), newLog()
		var sendErr error
		took, err := session(t, s, tr, h, time.Hour, func(ctx context.Context, up uplink.Session) {
			sendErr = sendAll(ctx, up, 1000)
			<-ctx.Done()
		})
		if err == nil || !strings.Contains(err.Error(), "lost") {
			t.Errorf("session ended with %v, want a lost connection", err)
		}
		if sendErr == nil {
			t.Error("1000 messages were sent to a server that took 7")
		}
		want := []uint64{1, 2, 3, 4, 5, 6, 7}
		if len(h.accepted) > 7 || !slices.Equal(h.accepted, want[:len(h.accepted)]) {
			t.Errorf("accepted %v, want a beginning of %v", h.accepted, want)
		}
		if took > 2*time.Second {
			t.Errorf("end of session noticed after %v", took)
		}
	})
}

// Each case is a server that stops in its own way, and how soon that must be
// noticed.
func TestDeadServers(t *testing.T) {
	tests := []struct {
		name   string
		play   func(p *peer)
		within time.Duration
	}{
		{"never answers connect", func(p *peer) { p.swallow() }, 15 * time.Second},
		{"closes instead of CONNACK", func(p *peer) { p.read() }, time.Second},
		{"never answers subscribe", func(p *peer) { p.login(0); p.swallow() }, 15 * time.Second},
		{"never answers pings", func(p *peer) { p.login(0); p.subscription(1); p.swallow() }, 20 * time.Second},
		{"stops reading", func(p *peer) {
			p.login(0)
			p.subscription(1)
			p.read()
			time.Sleep(time.Hour)
		}, 12 * time.Second},
		{"sends a huge packet", func(p *peer) {
			p.login(0)
			p.subscription(1)
			_, _ = p.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
			p.swallow()
		}, time.Second},
		{"sends a length without end", func(p *peer) {
			p.login(0)
			p.subscription(1)
			_, _ = p.Write([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff})
			p.swallow()
		}, time.Second},
		{"answers subscribe twice over", func(p *peer) {
			p.login(0)
			p.read()
			_, _ = p.Write([]byte{0x90, 0x05, 0x00, 0x01, 0x01, 0x01, 0x01})
			p.swallow()
		}, time.Second},
		{"completes a publish with a SUBACK", func(p *peer) {
			p.login(0)
			p.subscription(1)
			p.publishes(func(pk *packets.PublishPacket) bool {
				_, err := p.Write([]byte{0x90, 0x03, byte(pk.MessageID >> 8), byte(pk.MessageID), 0x01})
				return err == nil
			})
		}, 2 * time.Second},
		{"completes a publish with a PUBCOMP", func(p *peer) {
			p.login(0)
			p.subscription(1)
			p.publishes(func(pk *packets.PublishPacket) bool {
				_, err := p.Write([]byte{0x70, 0x02, byte(pk.MessageID >> 8), byte(pk.MessageID)})
				return err == nil
			})
		}, 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{play: tt.play}
				tr, h := newTransport(t, s, mqtt.Options{Acks: true}), newLog()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
				defer cancel()
				began := time.Now()
				err := tr.Session(ctx, h, func(ctx context.Context, up uplink.Session) {
					_ = sendAll(ctx, up, 3)
				})
				took := time.Since(began)
				if err == nil || ctx.Err() != nil {
					t.Errorf("session ended with %v, want it to notice", err)
				}
				if took > tt.within {
					t.Errorf("noticed after %v, want %v (%v)", took, tt.within, err)
				}
				if len(h.accepted) > 0 {
					t.Errorf("accepted %v", h.accepted)
				}
				s.wg.Wait()
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name     string
		connack  byte
		suback   byte
		refused  bool
		hintsAt  string
		mentions string
	}{
		{"bad password", 4, 1, true, "destinations[].links[].username", "user name"},
		{"not authorized", 5, 1, true, "destinations[].links[].username", "authorized"},
		{"client id", 2, 1, true, "destinations[].links[].client_id", "edgeagent-default-gw1"},
		{"protocol", 1, 1, true, "destinations[].links[].url", "3.1.1"},
		{"unavailable is no refusal", 3, 1, false, "", "tcp://broker:1883"},
		{"ack topic", 0, 0x80, true, "destinations[].links[].username", "ea/v1/default/gw1/ack"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{play: func(p *peer) {
					p.login(tt.connack)
					p.subscription(tt.suback)
					p.swallow()
				}}
				tr, err := mqtt.New(uplink.LinkConfig{URL: "tcp://broker", Protocol: uplink.ProtocolMQTT3}, mqtt.Options{Device: "gw1", Acks: true, Dial: s.dial})
				if err != nil {
					t.Fatal(err)
				}
				h := newLog()
				_, err = session(t, s, tr, h, time.Minute, func(context.Context, uplink.Session) {})
				var refused *uplink.RefusedError
				if errors.As(err, &refused) != tt.refused {
					t.Fatalf("session ended with %v, refused = %v", err, !tt.refused)
				}
				if refused != nil && !strings.Contains(refused.Hint(), tt.hintsAt) {
					t.Errorf("hint %q names no %s", refused.Hint(), tt.hintsAt)
				}
				if !strings.Contains(err.Error(), tt.mentions) {
					t.Errorf("error %q does not mention %q", err, tt.mentions)
				}
				if len(h.ups) != 0 {
					t.Error("Up was called")
				}
			})
		})
	}
}

func TestOrderlyEndSaysGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goodbye := false
		s := &script{play: func(p *peer) {
			p.login(0)
			for {
				pk, ok := p.read()
				if !ok {
					return
				}
				_, goodbye = pk.(*packets.DisconnectPacket)
			}
		}}
		tr, h := newTransport(t, s, mqtt.Options{}), newLog()
		took, err := session(t, s, tr, h, 3*time.Second, func(ctx context.Context, up uplink.Session) {
			_ = sendAll(ctx, up, 5)
			<-ctx.Done()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("session ended with %v", err)
		}
		if !goodbye {
			t.Error("no DISCONNECT was sent")
		}
		if took > 3*time.Second+100*time.Millisecond {
			t.Errorf("goodbye took %v", took-3*time.Second)
		}
	})
}

// A server that takes no bytes must not hold up the end of a session.
func TestEndOfSessionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{play: func(p *peer) {
			p.login(0)
			time.Sleep(time.Hour)
		}}
		tr, h := newTransport(t, s, mqtt.Options{}), newLog()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		_ = tr.Session(ctx, h, func(ctx context.Context, up uplink.Session) { _ = sendAll(ctx, up, 64) })
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("session ended %v after its context", took-2*time.Second)
		}
		s.wg.Wait()
	})
}

func TestSendWaitsForTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		received := 0
		s := &script{play: func(p *peer) {
			p.login(0)
			p.publishes(func(*packets.PublishPacket) bool { received++; return true })
		}}
		tr, h := newTransport(t, s, mqtt.Options{}), newLog()
		var sendErr error
		_, _ = session(t, s, tr, h, time.Minute, func(ctx context.Context, up uplink.Session) {
			sendErr = sendAll(ctx, up, 100)
		})
		if received != 64 {
			t.Errorf("%d messages left without a result, want 64", received)
		}
		if !errors.Is(sendErr, context.DeadlineExceeded) {
			t.Errorf("waiting Send returned %v", sendErr)
		}
	})
}

func TestAckTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pubacks := 0
		s := &script{play: func(p *peer) {
			p.login(0)
			p.subscription(1)
			for i, payload := range []string{"one", strings.Repeat("x", 64<<10+1), "two"} {
				pk := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
				pk.Qos, pk.TopicName, pk.MessageID, pk.Payload = 1, "ea/v1/default/gw1/ack", uint16(i+1), []byte(payload)
				p.send(pk)
			}
			for {
				pk, ok := p.read()
				if !ok {
					return
				}
				if _, ok := pk.(*packets.PubackPacket); ok {
					pubacks++
				}
			}
		}}
		tr, h := newTransport(t, s, mqtt.Options{Acks: true}), newLog()
		_, _ = session(t, s, tr, h, time.Second, func(context.Context, uplink.Session) {})
		if diff := cmp.Diff([]string{"one", "two"}, h.acks); diff != "" {
			t.Errorf("acks (-want +got):\n%s", diff)
		}
		if pubacks != 3 {
			t.Errorf("%d of 3 messages acknowledged to the server", pubacks)
		}
		if tr.Stats().RefusedAcks != 1 {
			t.Errorf("stats %+v, want one refused ack", tr.Stats())
		}
	})
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name string
		link uplink.LinkConfig
		opts mqtt.Options
		want string
	}{
		{"no device", uplink.LinkConfig{URL: "mqtt://b"}, mqtt.Options{}, "device.id is empty"},
		{"device with a slash", uplink.LinkConfig{URL: "mqtt://b"}, mqtt.Options{Device: "a/b"}, "cannot stand in a topic"},
		{"tenant with a wildcard", uplink.LinkConfig{URL: "mqtt://b"}, mqtt.Options{Device: "a", Tenant: "+"}, "cannot stand in a topic"},
		{"coap", uplink.LinkConfig{URL: "coap://b"}, mqtt.Options{Device: "a"}, "want scheme mqtt, mqtts, ws or wss"},
		{"a pin", uplink.LinkConfig{URL: "mqtts://b", TLS: uplink.TLSConfig{Pins: []string{"sha1/abc"}}}, mqtt.Options{Device: "a"}, "pin \"sha1/abc\""},
		{"no host", uplink.LinkConfig{URL: "mqtt://:1883"}, mqtt.Options{Device: "a"}, "no host"},
		{"path", uplink.LinkConfig{URL: "mqtt://b/x"}, mqtt.Options{Device: "a"}, "more than host and port"},
		{"login in the url", uplink.LinkConfig{URL: "mqtt://u:secret@b"}, mqtt.Options{Device: "a"}, "holds a login"},
		{"password alone", uplink.LinkConfig{URL: "mqtt://b", Password: edgeagent.NewSecret("x")}, mqtt.Options{Device: "a"}, "no user name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := mqtt.New(tt.link, tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("error shows the password: %v", err)
			}
		})
	}
}

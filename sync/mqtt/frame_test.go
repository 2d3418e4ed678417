package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// FuzzPackets5 reads whatever a server may send: no panic, nothing over the bounds, and
// a message is what the library takes it for.
func FuzzPackets5(f *testing.F) {
	add := func(p interface {
		WriteTo(w io.Writer) (int64, error)
	},
	) {
		var b bytes.Buffer
		_, _ = p.WriteTo(&b)
		f.Add(b.Bytes())
	}
	words := packets.Properties{ReasonString: "why", User: []packets.User{{Key: "k", Value: "v"}}}
	add(&packets.Connack{ReasonCode: 0x87, Properties: &words})
	add(&packets.Puback{PacketID: 7, ReasonCode: 0x97, Properties: &words})
	add(&packets.Publish{Topic: "a/b", QoS: 1, PacketID: 9, Payload: []byte("payload"), Properties: &packets.Properties{ContentType: "x", TopicAlias: new(uint16(1))}})
	add(&packets.Suback{PacketID: 1, Reasons: []byte{1, 0x87}, Properties: &words})
	add(&packets.Disconnect{ReasonCode: 0x9c, Properties: &packets.Properties{ServerReference: "x:1"}})
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x32, 0x0a, 0, 1, 't', 0, 1, 0x80, 0x80, 0x80, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, stream []byte) {
		l := &link{clientID: "id"}
		var got []inbound
		c := &client5{
			link: l, in: frames{in: bufio.NewReader(bytes.NewReader(stream))}, beat: newHeartbeat(defaultKeepAlive),
			acks: ackQueue{wake: make(chan struct{}, 1), most: 1 << 16},
			opening: opening{
				onMessage: func(m message) { got = append(got, inbound{topic: m.topic, payload: m.payload}); m.ack() },
				onPuback: func(_ uint16, r reason, said string) {
					if r.class() > 5 || len(refusedPublish(r, said, "t").Error()) > 5*maxSaid {
						t.Errorf("reason %x: %d bytes", r, len(said))
					}
				},
			},
		}
		for {
			frame, err := c.next()
			if err != nil {
				return
			}
			if len(frame.body) > maxPacket {
				t.Fatalf("a packet of %d bytes", len(frame.body))
			}
			if frame.kind == typeConnack {
				ack := packets.Connack{Properties: &packets.Properties{}}
				if unpack(&ack, frame.body) == nil {
					_ = c.loggedIn(reason(ack.ReasonCode), ack.Properties)
				}
				return
			}
			got = nil
			if c.handle(frame) != nil {
				return
			}
			if frame.kind == typePublish {
				same(t, frame, got)
			}
		}
	})
}

// same has the library read a message and holds it against what we made of it.
func same(t *testing.T, f frame, got []inbound) {
	t.Helper()
	packet := append(appendLength([]byte{byte(f.kind)<<4 | f.flags}, len(f.body)), f.body...)
	cp, err := packets.ReadPacket(bytes.NewReader(packet))
	if err != nil {
		t.Fatalf("the library does not read what we took: %v", err)
	}
	p := cp.Content.(*packets.Publish)
	if len(got) != 1 || p.Topic != got[0].topic || !bytes.Equal(p.Payload, got[0].payload) {
		t.Fatalf("messages %v; the library says %q, %x", got, p.Topic, p.Payload)
	}
}

type panics struct{}

func (panics) Unpack(b *bytes.Buffer) error { return errors.New(string(b.Bytes()[:1000])) }

// A panic of the library is an error of the connection and nothing more.
func TestPanicIsAnError(t *testing.T) {
	if err := unpack(panics{}, []byte("short")); err == nil || !strings.Contains(err.Error(), "malformed packet") {
		t.Errorf("unpack: %v", err)
	}
}

// The length of a packet is not believed before it is held against the bound.
func TestHugePacketTakesNoMemory(t *testing.T) {
	in := []byte{0x30, 0xff, 0xff, 0xff, 0x7f}
	if n := testing.AllocsPerRun(100, func() {
		f := frames{in: bufio.NewReaderSize(bytes.NewReader(in), 16)}
		if _, err := f.next(); err == nil {
			t.Error("a packet of 256 MiB was begun")
		}
	}); n > 20 {
		t.Errorf("%v allocations", n)
	}
	f := frames{in: bufio.NewReader(bytes.NewReader([]byte{0x30, 0xff, 0xff, 0x3f, 1, 2}))} // 1 MiB - 1, of which 2 bytes come
	if _, err := f.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a packet that is cut short: %v", err)
	}
}

func TestAcksLeaveInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &ackQueue{wake: make(chan struct{}, 1), most: 8}
		type entry struct {
			id    uint16
			place uint64
			done  bool
		}
		var came []entry // all that came
		var left []uint16
		next := uint16(1)
		drain := func() {
			select {
			case <-q.wake:
			default:
				return
			}
			for {
				b := q.take(make([]byte, 0, 12))
				if len(b) == 0 {
					return
				}
				for ; len(b) > 0; b = b[4:] {
					left = append(left, uint16(b[2])<<8|uint16(b[3]))
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				place, ok := q.add(next)
				if full := len(came)-len(left) >= 8; ok == full {
					t.Fatalf("add with %d open: %v", len(came)-len(left), ok)
				}
				if ok {
					came = append(came, entry{id: next, place: place})
					next++
				}
			},
			"done": func(t *rapid.T) {
				if len(came) > 0 { // also twice, and long after
					i := rapid.IntRange(0, len(came)-1).Draw(t, "which")
					q.done(came[i].place)
					came[i].done = true
					drain()
				}
			},
			"": func(t *rapid.T) {
				var want []uint16
				for _, e := range came {
					if !e.done {
						break
					}
					want = append(want, e.id)
				}
				if diff := cmp.Diff(want, left); diff != "" {
					t.Fatalf("acknowledged (-want +got):\n%s", diff)
				}
			},
		})
	})
}

func TestFlightsReuseNumbersThatAreFree(t *testing.T) {
	var f flights[int]
	held := f.add(-1)
	for i := range 200_000 {
		id := f.add(i)
		if id == 0 || id == held {
			t.Fatalf("number %d was given", id)
		}
		if v, ok := f.take(id); !ok || v != i {
			t.Fatalf("number %d holds %d, %v", id, v, ok)
		}
		if _, ok := f.take(id); ok {
			t.Fatal("a number was taken twice")
		}
	}
}

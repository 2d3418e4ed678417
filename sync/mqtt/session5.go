package mqtt

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

const (
	acksReceive = 16  // end-to-end acks that may come without our PUBACK
	headRoom    = 512 // bytes of a packet that are kept for properties
	leastPacket = 4 << 10
)

// session5 is a session on MQTT 5. The goroutine that reads calls the handler.
type session5 struct {
	t      *Transport
	h      uplink.Handler
	client *client5
	slots  chan struct{} // one for each message without a result
	open   flights[sent]
	over   <-chan struct{} // closed when the session ends
	cause  func() error    // why, valid then

	up    bool   // the handler knows
	early []told // what came before it did, at most ackRoom

	alias [4]aliasState // of each lane's topic
}

// sent is a message without a result.
type sent struct {
	id    uint64
	lane  uplink.Lane
	alias bool // the server learns the topic's alias with it
}

// aliasState guards a topic alias: it is used once the server has taken a message
// with it, for nobody says what becomes of one that was refused.
type aliasState struct {
	mu    sync.Mutex
	state uint8 // unknown, told, known
}

const (
	aliasUnknown = iota
	aliasTold
	aliasKnown
)

// session5 runs a session in MQTT 5.
func (t *Transport) session5(ctx context.Context, h uplink.Handler, start func(context.Context, uplink.Session)) error {
	s := &session5{t: t, h: h}
	o := opening{receive: acksReceive, onMessage: s.message, onPuback: s.puback}
	if t.acks {
		o.topics, o.needed = t.topics[:], 1
	}
	c, err := t.link.connect5(ctx, o)
	if err != nil {
		return err
	}
	defer c.close()
	if c.granted.packet < leastPacket {
		return uplink.Refused(fmt.Sprintf("it takes no packets over %d bytes", c.granted.packet), "raise the broker's limit to 16 KiB at least")
	}
	t.stats.sessions.Add(1)
	s.client, s.slots = c, make(chan struct{}, c.granted.inFlight)
	return s.run(ctx, start)
}

// run is the session while it is up.
func (s *session5) run(ctx context.Context, start func(context.Context, uplink.Session)) error {
	c := s.client
	up, end := context.WithCancelCause(ctx)
	defer end(nil)
	s.over, s.cause = up.Done(), func() error { return context.Cause(up) }
	s.h.Up(uplink.Caps{
		MaxInFlight: c.granted.inFlight, MaxMessage: c.granted.packet - headRoom - len(s.t.lanes[uplink.LaneBacklog]),
		KeepAlive: c.granted.keepAlive, ReasonCodes: true, LetsGo: true,
	})
	s.up = true
	for _, a := range s.early {
		a.tell(s.h)
	}
	c.run()
	var running sync.WaitGroup
	running.Go(func() { start(up, s) })
	grace := goodbyeTimeout // for a Send that hangs in a full socket, after an orderly end
	select {
	case <-up.Done():
	case <-c.gone:
		end(c.why())
		grace = 0
	}
	stop := time.AfterFunc(grace, func() { _ = c.raw.Close() })
	defer stop.Stop()
	running.Wait()
	return context.Cause(up)
}

// message takes an end-to-end ack or a hint.
func (s *session5) message(m message) {
	defer m.ack()
	word, ok := s.t.take(m.topic, m.payload)
	if !ok {
		return
	}
	if s.up {
		word.tell(s.h)
		return
	}
	if len(s.early) == ackRoom {
		s.early = s.early[1:]
		s.t.stats.droppedAcks.Add(1)
	}
	s.early = append(s.early, word)
}

// puback takes the result of a message.
func (s *session5) puback(id uint16, r reason, said string) {
	m, ok := s.open.take(id)
	if !ok {
		return // twice, or made up
	}
	class := r.class()
	if m.alias {
		s.alias[m.lane].learned(class)
	}
	res := uplink.Result{ID: m.id, Class: class}
	if class != uplink.Accepted {
		res.Err = refusedPublish(r, said, s.t.lanes[m.lane])
	}
	<-s.slots
	s.h.Result(res)
}

// Send implements [uplink.Session]. It waits while the server has as many messages
// without a result as it wants. The payload is not used after Send has returned.
func (s *session5) Send(ctx context.Context, m uplink.Message) error {
	if int(m.Lane) >= len(s.t.lanes) {
		return fmt.Errorf("send: unknown lane %d", m.Lane)
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.over:
		return s.cause()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	topic, props, first := s.envelope(m)
	id := s.open.add(sent{id: m.ID, lane: m.Lane, alias: first})
	err := s.client.send(publication{topic: topic, id: id, props: props, payload: m.Payload})
	if err == nil {
		return nil
	}
	s.client.fail(fmt.Errorf("publish: %w", err))
	<-s.over // soon: run looks at the loss
	return s.cause()
}

// envelope returns the topic and the properties of a message. The topic is empty where
// the server knows its alias; first says that it is told the alias now.
func (s *session5) envelope(m uplink.Message) (topic string, props []byte, first bool) {
	p := packets.Properties{}
	topic = s.t.lanes[m.Lane]
	if alias := uint16(m.Lane) + 1; int(alias) <= s.client.granted.aliases {
		state := s.alias[m.Lane].use()
		if state == aliasKnown {
			topic = ""
		}
		first = state == aliasUnknown
		if state != aliasTold {
			p.TopicAlias = &alias
		}
	}
	if expiry := s.t.expiry; expiry > 0 && (m.Lane == uplink.LaneLive || m.Lane == uplink.LaneBacklog) {
		seconds := uint32(expiry / time.Second)
		p.MessageExpiry = &seconds
	}
	describe(&p, m)
	return topic, p.Pack(packets.PUBLISH), first
}

// describe says what is in a text message: its format and who its records are. A
// block says all of that itself.
func describe(p *packets.Properties, m uplink.Message) {
	if m.ContentType == "" || m.ContentType == uplink.FormatBlock {
		return
	}
	p.ContentType = mediaType(m.ContentType)
	if m.Encoding != "" {
		p.User = append(p.User, packets.User{Key: "content-encoding", Value: m.Encoding})
	}
	h := m.Identity
	if h.Count == 0 {
		return
	}
	p.User = append(p.User,
		packets.User{Key: "epoch", Value: h.Epoch.String()}, packets.User{Key: "run", Value: h.Run.String()},
		packets.User{Key: "stream", Value: h.Stream.String()},
		packets.User{Key: "first", Value: strconv.FormatUint(uint64(h.First), 10)},
		packets.User{Key: "count", Value: strconv.FormatUint(uint64(h.Count), 10)})
}

// mediaType returns the registered name of a format, or ours.
func mediaType(format string) string {
	switch format {
	case uplink.FormatJSON:
		return "application/x-ndjson"
	case uplink.FormatSenMLJSON:
		return "application/senml+json" // RFC 8428
	case uplink.FormatSenMLCBOR:
		return "application/senml+cbor"
	case uplink.FormatLine:
		return "application/vnd.influx.line"
	}
	return "application/vnd.edgeagent." + format
}

// use returns what the server knows of the alias, and notes that it is told.
func (a *aliasState) use() uint8 {
	a.mu.Lock()
	defer a.mu.Unlock()
	state := a.state
	if state == aliasUnknown {
		a.state = aliasTold
	}
	return state
}

// learned takes the result of the message that told the alias.
func (a *aliasState) learned(c uplink.Class) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = aliasUnknown
	if c == uplink.Accepted || c == uplink.NoReceiver {
		a.state = aliasKnown
	}
}

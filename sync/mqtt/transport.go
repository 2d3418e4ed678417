package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

const (
	// window bounds the messages without a result. A larger one buys nothing but
	// latency, and mosquitto takes 20 at a time anyway.
	window = 64
	// ackRoom bounds the end-to-end acks that wait for the engine. They are
	// cumulative, so on overflow the oldest goes.
	ackRoom = 16
	maxAck  = 64 << 10 // bytes of one end-to-end ack
)

// Options say who sends.
type Options struct {
	Tenant string // default "default"
	// Root replaces "ea/v1" at the beginning of the topics that are published to, so
	// that no receiver hears them; default "ea/v1".
	Root   string
	Device string // required
	// Acks asks for end-to-end acks: the ack topic is subscribed to before a
	// session is up.
	Acks bool
	// NeedReasons refuses a server that does not speak MQTT 5, whose acknowledgements
	// say what became of a message.
	NeedReasons bool
	// Dial opens connections, to the proxy if there is one; default
	// [net.Dialer.DialContext].
	Dial DialFunc
	// Dir is where relative names of certificate files start.
	Dir string
	// Now is what certificates are held against; default [time.Now].
	Now func() time.Time
	// Logger gets dropped acks at debug level; default none.
	Logger *slog.Logger
	// Trace is told how sessions begin; default none.
	Trace *Trace
}

// Transport sends over one link. It holds no connection between sessions and is
// safe for concurrent use, though two sessions at once would fight for the client
// id.
type Transport struct {
	link   link
	lanes  [4]string // topics
	acks   bool
	topics [2]string     // of acks and of hints
	expiry time.Duration // of messages of readings at the server; 0 = never
	tongue *tongue
	stats  transportCounters
}

type transportCounters struct{ sessions, older, refusedAcks, droppedAcks atomic.Uint64 }

// TransportStats counts what a transport has seen.
type TransportStats struct {
	Sessions    uint64 // that came up
	Older       uint64 // times that 3.1.1 was tried because the server did not speak 5
	DroppedAcks uint64 // end-to-end acks that gave way to newer ones
	RefusedAcks uint64 // end-to-end acks over 64 KiB
}

var _ uplink.Transport = (*Transport)(nil)

// New returns a transport for one link. It opens nothing yet.
func New(cfg uplink.LinkConfig, o Options) (*Transport, error) {
	if o.Tenant == "" {
		o.Tenant = "default"
	}
	if err := validName("device.tenant", o.Tenant); err != nil {
		return nil, err
	}
	if err := validName("device.id", o.Device); err != nil {
		return nil, err
	}
	l, err := newLink(cfg, o.Dial, o.Logger)
	if err != nil {
		return nil, err
	}
	var need error
	if o.NeedReasons {
		need = edgeagent.WithHint(errors.New("MQTT 3.1.1 has no reason codes"),
			`use destinations[].links[].protocol: auto or "5", or destinations[].ack: transport`)
	}
	tongue, err := newTongue(cfg.Protocol, need)
	if err != nil {
		return nil, err
	}
	l.clean, l.dir, l.trace = true, o.Dir, o.Trace
	if o.Now != nil {
		l.now = o.Now
	}
	if l.clientID == "" {
		l.clientID = "edgeagent-" + o.Tenant + "-" + o.Device
	}
	t := &Transport{link: l, acks: o.Acks, topics: [2]string{AckTopic(o.Tenant, o.Device), HintTopic(o.Tenant, o.Device)}, expiry: cfg.MessageExpiry, tongue: tongue}
	if t.acks {
		t.link.filters = len(t.topics)
	}
	for i := range t.lanes {
		t.lanes[i] = DataTopic(o.Tenant, o.Device, uplink.Lane(i).String())
		if o.Root != "" {
			t.lanes[i] = o.Root + strings.TrimPrefix(t.lanes[i], topicRoot)
		}
	}
	return t, nil
}

const topicRoot = "ea/v1"

// DataTopic returns where a device publishes a lane: ea/v1/{tenant}/{device}/d/{lane}.
func DataTopic(tenant, device, lane string) string {
	return topicRoot + "/" + tenant + "/" + device + "/d/" + lane
}

// AckTopic returns where a device hears end-to-end acks: ea/v1/{tenant}/{device}/ack.
func AckTopic(tenant, device string) string {
	return topicRoot + "/" + tenant + "/" + device + "/ack"
}

// HintTopic returns where a device hears what the server asks for, see [uplink.Hint]:
// ea/v1/{tenant}/{device}/hint. It is listened to where acks are, and a server may
// refuse it.
func HintTopic(tenant, device string) string {
	return "ea/v1/" + tenant + "/" + device + "/hint"
}

// told is a message to the agent: an end-to-end ack or a hint.
type told struct {
	hint    bool
	payload []byte
}

// take counts what is too large to look at.
func (t *Transport) take(topic string, payload []byte) (told, bool) {
	if len(payload) > maxAck {
		t.stats.refusedAcks.Add(1)
		return told{}, false
	}
	return told{topic == t.topics[1], payload}, true
}

// tell hands it to who wants it.
func (m told) tell(h uplink.Handler) {
	if !m.hint {
		h.Ack(m.payload)
		return
	}
	if h, ok := h.(uplink.HintHandler); ok {
		h.Hint(m.payload)
	}
}

// validName refuses what would change the shape of a topic.
func validName(key, name string) error {
	switch {
	case name == "":
		return edgeagent.WithHint(errors.New(key+" is empty"), "set "+key)
	case len(name) > 128:
		return edgeagent.WithHint(fmt.Errorf("%s of %d bytes is over 128", key, len(name)), "shorten "+key)
	case strings.ContainsAny(name, "/+#\x00") || name[0] == '$':
		return edgeagent.WithHint(fmt.Errorf("%s %q cannot stand in a topic", key, name),
			`choose a `+key+` without "/", "+", "#" and a leading "$"`)
	}
	return nil
}

// String names the link without secrets.
func (t *Transport) String() string { return t.link.String() }

// Stats returns the counters.
func (t *Transport) Stats() TransportStats {
	return TransportStats{
		Sessions:    t.stats.sessions.Load(),
		Older:       t.stats.older.Load(),
		DroppedAcks: t.stats.droppedAcks.Load(),
		RefusedAcks: t.stats.refusedAcks.Load(),
	}
}

// Session implements [uplink.Transport]. When ctx ends it returns ctx's error.
func (t *Transport) Session(ctx context.Context, h uplink.Handler, start func(context.Context, uplink.Session)) error {
	if !t.tongue.five(time.Now()) {
		return t.session3(ctx, h, start, func() {})
	}
	err := t.session5(ctx, h, start)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if !t.tongue.fallBack(err) {
		return err
	}
	t.stats.older.Add(1)
	t.link.log.Debug("server does not speak MQTT 5, trying 3.1.1", "link", t.String(), "error", err)
	return t.session3(ctx, h, start, func() { t.tongue.settle(time.Now()) })
}

package coap

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Content formats (the register is at IANA); that of blocks is from the range that is
// free for experiments.
const (
	formatText      = 0
	formatJSON      = 50
	formatSenMLJSON = 110
	formatSenMLCBOR = 112
	formatBlock     = 65001
)

const (
	queueMessages = 1024
	queueBytes    = 64 << 20
	ackHold       = 20 * time.Millisecond // how long a 2.04 waits for the hub's word
	maxDevices    = 10_000
)

// Delivery is a message that came in, as in sync/mqtt: the same type, so that neither
// side imports the other. Ack answers the client; it may be called once, from any
// goroutine, at any time.
type Delivery = struct {
	Topic   string
	Payload []byte
	Ack     func()
}

// Receiver takes messages from agents. It listens; it is an input of a hub.
type Receiver struct {
	cfg ReceiverConfig
	log *slog.Logger
	in  chan *inbound // bounded by queueMessages; beyond it clients hear 5.03

	bytes   atomic.Int64 // of the bodies in it
	mu      sync.Mutex   // guards devices
	devices map[string]*deviceState
	stats   receiverCounters
}

// deviceState is what is to be told to a device.
type deviceState struct {
	latest   []byte       // acknowledgement, nil before the first
	pending  []pendingAck // not told to anybody, at most one an epoch
	waiting  []*inbound   // committed and not answered
	watchers []*peer      // that observe the acknowledgements; the agent, and perhaps a check beside it
	timer    *time.Timer
	seen     time.Time
}

// pendingAck is an acknowledgement on its way. One speaks of one epoch, so one of
// another epoch does not replace it.
type pendingAck struct {
	epoch string
	body  []byte
}

const (
	maxPending  = 16 // epochs, the oldest goes: it is told again with the next message of it
	maxWatchers = 4  // of one device, the oldest goes
)

// put adds an acknowledgement in place of an older one of its epoch.
func (d *deviceState) put(body []byte) {
	var of struct {
		Epoch string `json:"e"`
	}
	_ = json.Unmarshal(body, &of) // "" will do
	d.latest = body
	d.pending = slices.DeleteFunc(d.pending, func(p pendingAck) bool { return p.epoch == of.Epoch })
	if len(d.pending) == maxPending {
		d.pending = slices.Delete(d.pending, 0, 1)
	}
	d.pending = append(d.pending, pendingAck{of.Epoch, body})
}

// takeFor takes an acknowledgement that fits in an answer to a peer.
func (d *deviceState) takeFor(p *peer) []byte {
	i := slices.IndexFunc(d.pending, func(a pendingAck) bool { return len(a.body) <= plainPayload || p.stream != nil })
	if i < 0 {
		return nil
	}
	body := d.pending[i].body
	d.pending = slices.Delete(d.pending, i, i+1)
	return body
}

type receiverCounters struct{ delivered, refused, throttled, acks, lateAcks atomic.Uint64 }

// ReceiverStats is what a receiver has done.
type ReceiverStats struct {
	Delivered uint64 // messages handed to the handler
	Refused   uint64 // requests answered with 4.xx
	Throttled uint64 // requests answered with 5.03 for want of room
	Acks      uint64 // end-to-end acks that travelled in a 2.04
	LateAcks  uint64 // end-to-end acks that travelled as notifications
	Depth     int    // messages queued for the handler now, at most 1,024
	Bytes     int    // of their payloads, at most 64 MiB
	Devices   int    // known now, at most 10,000
}

// ReceiverConfig says where a [Receiver] listens.
type ReceiverConfig struct {
	Listeners []Listener // at least one
	// Authorize says whether a client may speak for a device. identity is what it has
	// proved: the PSK identity, or the common name of its certificate; "" on links
	// that prove nothing. Default [SameDevice].
	Authorize func(identity, tenant, device string) bool
	// Logger gets refusals; default none.
	Logger *slog.Logger
}

// SameDevice lets a client speak for the device that it has proved to be, written as
// device or tenant/device, and a client that proves nothing for any.
func SameDevice(identity, tenant, device string) bool {
	return identity == "" || identity == device || identity == tenant+"/"+device
}

// NewReceiver returns a receiver that does not serve yet.
func NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	if len(cfg.Listeners) == 0 {
		return nil, errors.New("coap receiver: no listener")
	}
	if cfg.Authorize == nil {
		cfg.Authorize = SameDevice
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Receiver{cfg: cfg, log: cfg.Logger, in: make(chan *inbound, queueMessages), devices: map[string]*deviceState{}}, nil
}

// Run serves until ctx ends, and returns nil then. handle is called from one goroutine
// at a time and may block: meanwhile 1,024 messages or 64 MiB are queued, and what
// comes on top is told to come again.
func (r *Receiver) Run(ctx context.Context, handle func(Delivery)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	srv := &server{handle: r.take, szx: largestSZX, gone: r.forgetPeer}
	var wg sync.WaitGroup
	for _, l := range r.cfg.Listeners {
		wg.Go(func() {
			if err := l.serve(ctx, srv); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	defer wg.Wait()
	defer r.stop()
	for {
		select {
		case x := <-r.in:
			r.bytes.Add(-int64(len(x.body)))
			r.stats.delivered.Add(1)
			key := device(x)
			handle(Delivery{Topic: strings.Join(x.path, "/"), Payload: x.body, Ack: func() { r.committed(key, x) }})
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return nil
		}
	}
}

// stop ends the timers.
func (r *Receiver) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		if d.timer != nil {
			d.timer.Stop()
		}
		d.waiting = nil
	}
}

// take is called with each request; it must not block.
func (r *Receiver) take(x *inbound) {
	isData := len(x.path) == 6 && x.path[4] == "d"
	isAck := len(x.path) == 5 && x.path[4] == "ack"
	switch {
	case !isData && !isAck || x.path[0] != "ea" || x.path[1] != "v1" || !plain(x.path):
		r.refuse(x, codeNotFound)
	case !r.cfg.Authorize(x.peer.identity, x.path[2], x.path[3]):
		r.refuse(x, codeForbidden)
	case isAck && x.code == methodGet:
		r.tellAck(x)
	case !isData || x.code != methodPost:
		r.refuse(x, codeMethodNotAllowed)
	case x.format != formatBlock:
		r.refuse(x, codeUnsupportedFormat)
	default:
		r.queue(x)
	}
}

// plain reports whether no part of a path would change its shape as a topic.
func plain(path []string) bool {
	for _, p := range path {
		if p == "" || strings.ContainsAny(p, "/+#\x00") || len(p) > 128 {
			return false
		}
	}
	return true
}

func (r *Receiver) refuse(x *inbound, c code) {
	r.stats.refused.Add(1)
	r.log.Debug("request refused", "peer", x.peer.name, "code", c.String(), "path", strings.Join(x.path, "/"))
	x.reply(&message{code: c})
}

func (r *Receiver) queue(x *inbound) {
	if r.bytes.Add(int64(len(x.body))) <= queueBytes {
		select {
		case r.in <- x:
			return
		default:
		}
	}
	r.bytes.Add(-int64(len(x.body)))
	r.stats.throttled.Add(1)
	m := &message{code: codeUnavailable}
	m.addUint(optMaxAge, uint32(queueRetry/time.Second))
	x.reply(m)
}

// device returns what a request is about: tenant and device.
func device(x *inbound) string { return x.path[2] + "/" + x.path[3] }

// state returns what is known of a device; r.mu is held. When there are too many, the
// one that was silent longest is forgotten: it is told anew what is held when it comes
// again.
func (r *Receiver) state(key string) *deviceState {
	d := r.devices[key]
	if d == nil {
		if len(r.devices) >= maxDevices {
			r.forgetOldest()
		}
		d = &deviceState{}
		r.devices[key] = d
	}
	d.seen = time.Now()
	return d
}

func (r *Receiver) forgetOldest() {
	var oldest string
	for k, d := range r.devices {
		if len(d.waiting) == 0 && (oldest == "" || d.seen.Before(r.devices[oldest].seen)) {
			oldest = k
		}
	}
	delete(r.devices, oldest)
}

// committed answers a message that the hub is done with: with the acknowledgement if
// there is a new one already, or if one comes in a moment.
func (r *Receiver) committed(key string, x *inbound) {
	r.mu.Lock()
	d := r.state(key)
	d.waiting = append(d.waiting, x)
	if len(d.pending) > 0 {
		send := r.answers(d)
		r.mu.Unlock()
		send()
		return
	}
	if d.timer == nil {
		d.timer = time.AfterFunc(ackHold, func() { r.release(key) })
	} else if len(d.waiting) == 1 {
		d.timer.Reset(ackHold)
	}
	r.mu.Unlock()
}

// release answers without an acknowledgement: the hub keeps its own rhythm.
func (r *Receiver) release(key string) {
	r.mu.Lock()
	send := func() {}
	if d := r.devices[key]; d != nil {
		send = r.answers(d)
	}
	r.mu.Unlock()
	send()
}

// answers returns what answers all requests of a device that wait; r.mu is held. Each
// carries an acknowledgement while there are some; who else observes them is told, too.
func (r *Receiver) answers(d *deviceState) (send func()) {
	waiting := d.waiting
	d.waiting = nil
	if d.timer != nil {
		d.timer.Stop()
	}
	replies := make([]*message, len(waiting))
	var tell []func()
	for i, x := range waiting {
		replies[i] = &message{code: codeChanged}
		if ack := d.takeFor(x.peer); ack != nil {
			replies[i].addUint(optContentFormat, formatJSON)
			replies[i].payload = ack
			r.stats.acks.Add(1)
			tell = append(tell, d.telling(x.path, ack, x.peer))
		}
	}
	return func() {
		for i, x := range waiting {
			x.reply(replies[i])
		}
		for _, f := range tell {
			f()
		}
	}
}

// telling returns what notifies all watchers but one; path begins as that of the
// acknowledgements does.
func (d *deviceState) telling(path []string, ack []byte, but *peer) func() {
	topic := strings.Join(path[:4], "/") + "/ack"
	watchers := slices.DeleteFunc(slices.Clone(d.watchers), func(p *peer) bool { return p == but })
	return func() {
		for _, p := range watchers {
			p.notify(topic, formatJSON, ack)
		}
	}
}

// Publish takes an end-to-end acknowledgement, whose topic is ea/v1/{tenant}/{device}/ack,
// to its device: in the answer to a message that waits for it, else as a notification,
// else in the answer to the next message. It never waits.
func (r *Receiver) Publish(_ context.Context, topic string, payload []byte) error {
	path := strings.Split(topic, "/")
	if len(path) != 5 || path[4] != "ack" {
		return edgeagent.WithHint(errors.New("not an ack topic: "+topic), "only acknowledgements travel over CoAP")
	}
	r.mu.Lock()
	d := r.state(path[2] + "/" + path[3])
	d.put(payload)
	send := []func(){r.answers(d)}
	if len(d.watchers) > 0 {
		for _, a := range d.pending {
			send = append(send, d.telling(path, a.body, nil))
			r.stats.lateAcks.Add(1)
		}
		d.pending = nil
	}
	r.mu.Unlock()
	for _, f := range send {
		f()
	}
	return nil
}

// tellAck answers with what was acknowledged last, and tells the client of changes if it
// wants.
func (r *Receiver) tellAck(x *inbound) {
	r.mu.Lock()
	d := r.state(device(x))
	if x.observe == 0 && !slices.Contains(d.watchers, x.peer) {
		if len(d.watchers) == maxWatchers {
			d.watchers = slices.Delete(d.watchers, 0, 1)
		}
		d.watchers = append(d.watchers, x.peer)
	}
	ack := d.latest
	r.mu.Unlock()
	x.content(formatJSON, ack, true)
}

// forgetPeer is called when a client has gone.
func (r *Receiver) forgetPeer(p *peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		d.watchers = slices.DeleteFunc(d.watchers, func(x *peer) bool { return x == p })
	}
}

// Stats returns the counters.
func (r *Receiver) Stats() ReceiverStats {
	r.mu.Lock()
	n := len(r.devices)
	r.mu.Unlock()
	s := &r.stats
	return ReceiverStats{
		Delivered: s.delivered.Load(), Refused: s.refused.Load(), Throttled: s.throttled.Load(),
		Acks: s.acks.Load(), LateAcks: s.lateAcks.Load(),
		Depth: len(r.in), Bytes: int(r.bytes.Load()), Devices: n,
	}
}

// String names where it listens.
func (r *Receiver) String() string {
	names := make([]string, len(r.cfg.Listeners))
	for i, l := range r.cfg.Listeners {
		names[i] = l.String()
	}
	return strings.Join(names, ", ")
}

package coap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Bounds of the request layer.
const (
	maxTransfers    = 128     // requests that wait or are under way
	maxDownload     = 1 << 20 // bytes of a body that is fetched
	maxRestarts     = 3       // of one transfer, by 4.08, a new ETag or a lost exchange
	responseTimeout = exchangeLifetime
	mostReobserve   = 15 * time.Minute
	leastReobserve  = 5 * time.Second
	plainPayload    = 1024 // bytes in one datagram
)

// Errors of a request. All but errFull mean that the connection is of no use any more.
var (
	errTimeout  = errors.New("no answer")
	errReset    = errors.New("the server has forgotten the connection")
	errFull     = errors.New("too many requests at once")
	errProtocol = errors.New("the server does not keep to the protocol")
)

// request is one request. It must not be changed while it is under way.
type request struct {
	Method        code
	Path          []string
	Query         []string
	ContentFormat int // -1 for none
	Accept        int // -1 for any
	Body          []byte
	ETag          []byte // GET: what is held already
	Priority      int    // lower goes first, at block boundaries
	observe       bool
}

// response is the answer to a request, whole.
type response struct {
	Code          string // like 2.04
	ContentFormat int    // -1 for none
	Body          []byte
	ETag          []byte
	MaxAge        time.Duration // 60 s if the server does not say
	Limit         int           // with 4.13: bytes that the server would take, 0 if it does not say

	code code
	seq  uint32 // Observe
	obs  bool
}

// caller makes messages of requests and responses of messages: block-wise transfer
// (RFC 7959) in both directions and observation (RFC 7641). Each block is an exchange
// of its own. Like reliable it is a pure state machine.
type caller struct {
	rng       *rand.Rand
	lower     lower
	szx       uint8 // of the blocks we send and ask for
	whole     int   // bytes of a body that go without blocks
	tags      bool  // the server tells bodies for one resource apart by Request-Tag
	transfers []*transfer
	observers []*observer
	later     []func() // to be called when no lock is held
}

// lower is what carries the messages of a caller.
type lower interface {
	// ready reports whether a message would be sent at once.
	ready() bool
	// send sends a request; the handle is for cancel.
	send(now time.Time, m *message) *outgoing
	cancel(now time.Time, o *outgoing)
}

// transfer is a request and how far it has got.
type transfer struct {
	req     *request
	done    func(response, error)
	token   []byte
	out     *outgoing
	sent    bool      // waits for a response
	since   time.Time // of sent
	arrived bool      // the message was acknowledged

	blockwise bool
	szx       uint8
	offset    int // of the next block
	size      int // of the block that is under way
	tag       []byte
	restarts  int

	down   bool // the rest of the response is being fetched
	body   []byte
	etag   []byte
	first  *response // the response that the body belongs to
	fixed  bool      // the token is an observer's
	wanted int       // SZX that the server likes for downloads
}

// observer is a resource that is being watched.
type observer struct {
	req    *request
	token  []byte
	notify func(response)
	seq    uint32
	heard  time.Time
	renew  time.Time
}

func newCaller(rng *rand.Rand, l lower) *caller {
	return &caller{rng: rng, lower: l, szx: largestSZX, whole: plainPayload}
}

// newToken is not to be guessed by somebody who cannot see it.
func (c *caller) newToken() []byte {
	return binary.BigEndian.AppendUint64(nil, c.rng.Uint64())
}

// start begins a request. done is called once, unless the connection ends first.
func (c *caller) start(now time.Time, req *request, done func(response, error)) {
	c.begin(now, &transfer{req: req, done: done, szx: c.szx, wanted: int(c.szx)})
}

func (c *caller) begin(now time.Time, t *transfer) {
	if len(c.transfers) >= maxTransfers {
		c.later = append(c.later, func() { t.done(response{}, errFull) })
		return
	}
	c.transfers = append(c.transfers, t)
	for i := len(c.transfers) - 1; i > 0 && c.transfers[i-1].req.Priority > t.req.Priority; i-- {
		c.transfers[i-1], c.transfers[i] = t, c.transfers[i-1]
	}
	t.blockwise = len(t.req.Body) > c.whole
	c.pump(now)
}

// pump sends what may be sent. Between two blocks a request with a higher priority
// goes first, but never into a transfer to the same resource: a server without
// Request-Tag would mix them up, and no server is sent more bodies at once than ours
// takes.
func (c *caller) pump(now time.Time) {
	for c.lower.ready() {
		t := c.next()
		if t == nil {
			return
		}
		m := c.message(t)
		t.sent, t.since = true, now
		t.out = c.lower.send(now, m)
		t.arrived = t.out == nil // a stream keeps the order
	}
}

func (c *caller) next() *transfer {
	for i, t := range c.transfers {
		if !t.sent && !c.blocked(i, t) {
			return t
		}
	}
	return nil
}

func (c *caller) blocked(i int, t *transfer) bool {
	if c.tags {
		return t.blockwise && t.offset == 0 && c.uploads() >= maxPartials
	}
	for j, x := range c.transfers {
		if j != i && t.offset == 0 && x.uploading() && slices.Equal(x.req.Path, t.req.Path) {
			return true
		}
	}
	return false
}

// uploads returns how many bodies the server has a part of.
func (c *caller) uploads() (n int) {
	for _, t := range c.transfers {
		if t.uploading() {
			n++
		}
	}
	return n
}

// uploading reports whether the server has some blocks of the body and not all.
func (t *transfer) uploading() bool {
	last := t.sent && t.arrived && t.offset+t.size >= len(t.req.Body)
	return t.blockwise && !t.down && (t.sent || t.offset > 0) && !last
}

// arrived notes that the server has a message, and will answer it later.
func (c *caller) arrived(now time.Time, o *outgoing) {
	for _, t := range c.transfers {
		if t.out == o {
			t.arrived = true
		}
	}
	c.pump(now)
}

// message makes the next message of a transfer.
func (c *caller) message(t *transfer) *message {
	// All blocks of an upload have one token: RFC 7959 does not ask for it, and servers
	// that know a body by its token (go-coap, node-coap) need it.
	if t.down || !t.fixed && t.offset == 0 {
		t.token = c.newToken()
	}
	m := &message{code: t.req.Method, token: t.token}
	for _, p := range t.req.Path {
		m.addString(optURIPath, p)
	}
	for _, q := range t.req.Query {
		m.addString(optURIQuery, q)
	}
	if t.req.Accept >= 0 {
		m.addUint(optAccept, uint32(t.req.Accept))
	}
	if t.down {
		m.setBlock(optBlock2, block{num: uint32(len(t.body) >> (4 + min(t.wanted, largestSZX))), szx: uint8(min(t.wanted, largestSZX))})
		return m
	}
	if t.req.observe {
		m.addUint(optObserve, 0)
	}
	if len(t.req.ETag) > 0 {
		m.add(optETag, t.req.ETag)
	}
	if t.req.ContentFormat >= 0 && t.req.Body != nil {
		m.addUint(optContentFormat, uint32(t.req.ContentFormat))
	}
	if !t.blockwise {
		m.payload = t.req.Body
		return m
	}
	c.addBlock(t, m)
	return m
}

// addBlock puts the next block of the body into m.
func (c *caller) addBlock(t *transfer, m *message) {
	b := block{szx: t.szx}
	t.size = b.size()
	if t.szx == bert { // as many blocks as the peer takes at once
		t.size = max(c.whole/1024, 1) * 1024
	}
	b.num = uint32(t.offset / b.size())
	if t.offset == 0 {
		t.tag = binary.BigEndian.AppendUint32(nil, c.rng.Uint32())
		m.addUint(optSize1, uint32(len(t.req.Body)))
	}
	m.add(optRequestTag, t.tag)
	end := min(t.offset+t.size, len(t.req.Body))
	b.more = end < len(t.req.Body)
	m.setBlock(optBlock1, b)
	m.payload = t.req.Body[t.offset:end]
}

// answer takes a response. It reports false when nobody waits for it.
func (c *caller) answer(now time.Time, m *message) bool {
	for _, t := range c.transfers {
		if t.sent && bytes.Equal(t.token, m.token) {
			if t.stale(m) {
				return true
			}
			t.sent, t.out = false, nil
			c.progress(now, t, m)
			c.pump(now)
			return true
		}
	}
	for _, o := range c.observers {
		if bytes.Equal(o.token, m.token) {
			c.notified(now, o, m)
			c.pump(now)
			return true
		}
	}
	return false
}

// stale reports whether m answers a block before the one that is under way.
func (t *transfer) stale(m *message) bool {
	b, has, bad := m.blockOption(optBlock1)
	return t.blockwise && !t.down && has && !bad && m.code == codeContinue && b.offset() < t.offset
}

// progress takes the response to one block.
func (c *caller) progress(now time.Time, t *transfer, m *message) {
	if id, bad := misunderstood(m, clientKnows); bad {
		c.end(t, response{}, fmt.Errorf("%w: response %s with critical option %d", errProtocol, m.code, id))
		return
	}
	if t.down {
		c.downloaded(t, m)
		return
	}
	b, has, bad := m.blockOption(optBlock1)
	if bad {
		c.end(t, response{}, fmt.Errorf("%w: malformed Block1", errProtocol))
		return
	}
	more := t.blockwise && t.offset+t.size < len(t.req.Body)
	switch {
	case m.code == codeContinue && (!more || !has):
		c.end(t, response{}, fmt.Errorf("%w: 2.31 without a reason", errProtocol))
	case more && has && m.code.success():
		c.uploaded(t, b)
	case m.code == codeIncomplete && t.blockwise && t.restarts < maxRestarts:
		t.restarts++
		t.offset = 0
	case m.code == codeTooLarge && has && len(t.req.Body) > 0 && t.offset == 0 && b.szx < bert && (!t.blockwise || b.szx < t.szx) && len(t.req.Body) > b.size():
		// The server wants smaller blocks, or blocks at all.
		t.blockwise, t.szx = true, b.szx
	default:
		c.received(now, t, m)
	}
}

// uploaded goes on after a block that the server has taken. It may ask for smaller
// ones.
func (c *caller) uploaded(t *transfer, b block) {
	sent := t.offset / block{szx: t.szx}.size()
	if int(b.num) != sent && b.offset() != t.offset {
		c.end(t, response{}, fmt.Errorf("%w: block %d is answered with block %d", errProtocol, sent, b.num))
		return
	}
	t.offset += t.size
	if b.szx < t.szx && b.szx < bert {
		t.szx = b.szx
	}
}

// received takes the response, or the first block of it.
func (c *caller) received(now time.Time, t *transfer, m *message) {
	r := responseOf(m)
	if t.req.observe && r.obs && t.fixed {
		c.registered(now, t, &r)
	}
	b, has, bad := m.blockOption(optBlock2)
	switch {
	case bad || has && b.num != 0 && t.req.Method == methodGet:
		c.end(t, response{}, fmt.Errorf("%w: it begins with block %d", errProtocol, b.num))
	case !has || !b.more:
		c.end(t, r, nil)
	case len(m.payload) == 0 || len(m.payload)%b.size() != 0:
		c.end(t, response{}, fmt.Errorf("%w: %d bytes in a block of %d", errProtocol, len(m.payload), b.size()))
	default:
		t.down, t.first, t.etag = true, &r, r.ETag
		t.body, t.wanted = r.Body, int(b.szx)
	}
}

// downloaded takes a further block of the response. It must be of the same content as
// those before.
func (c *caller) downloaded(t *transfer, m *message) {
	b, has, bad := m.blockOption(optBlock2)
	etag, _ := m.get(optETag)
	switch {
	case !m.code.success():
		c.end(t, responseOf(m), nil)
	case !bytes.Equal(etag, t.etag) || !has:
		if t.restarts++; t.restarts > maxRestarts {
			c.end(t, response{}, fmt.Errorf("%w: the content changes all the time", errProtocol))
			return
		}
		t.down, t.body, t.etag = false, nil, nil
	case bad || b.offset() != len(t.body) || b.more && (len(m.payload) == 0 || len(m.payload)%b.size() != 0):
		c.end(t, response{}, fmt.Errorf("%w: block at %d where %d was asked for", errProtocol, b.offset(), len(t.body)))
	case len(t.body)+len(m.payload) > maxDownload:
		c.end(t, response{}, fmt.Errorf("the response is over %d bytes", maxDownload))
	default:
		t.body = append(t.body, m.payload...)
		t.wanted = int(b.szx)
		if !b.more {
			r := *t.first
			r.Body = t.body
			c.end(t, r, nil)
		}
	}
}

func (c *caller) end(t *transfer, r response, err error) {
	c.transfers = slices.DeleteFunc(c.transfers, func(x *transfer) bool { return x == t })
	c.later = append(c.later, func() { t.done(r, err) })
}

// failed takes a message that was repeated in vain. A transfer in its middle gets
// another try; otherwise it returns what to end the connection with.
func (c *caller) failed(now time.Time, o *outgoing) error {
	for _, t := range c.transfers {
		if t.out == o {
			if (t.offset > 0 || t.down) && t.restarts < maxRestarts {
				t.restarts++
				t.sent, t.out = false, nil
				c.pump(now)
				return nil
			}
		}
	}
	return fmt.Errorf("%w to %s in %v", errTimeout, o.msg.code, now.Sub(o.first).Round(time.Second))
}

// tick looks for responses that never came, and renews observations.
func (c *caller) tick(now time.Time) error {
	for _, t := range c.transfers {
		if t.sent && now.Sub(t.since) > responseTimeout {
			return fmt.Errorf("%w within %v", errTimeout, responseTimeout)
		}
	}
	for _, o := range c.observers {
		if !now.Before(o.renew) {
			c.register(now, o, o.notify)
		}
	}
	return nil
}

// wake returns when tick is to be called.
func (c *caller) wake() (at time.Time) {
	for _, t := range c.transfers {
		if d := t.since.Add(responseTimeout + 1); t.sent && (at.IsZero() || d.Before(at)) {
			at = d
		}
	}
	for _, o := range c.observers {
		if at.IsZero() || o.renew.Before(at) {
			at = o.renew
		}
	}
	return at
}

// observe watches a resource until the connection ends: notify is called with what it
// holds now and whenever it changes.
func (c *caller) observe(now time.Time, req *request, notify func(response), done func(response, error)) {
	r := *req
	r.observe = true
	o := &observer{req: &r, token: c.newToken(), notify: notify}
	c.observers = append(c.observers, o)
	c.register(now, o, func(x response) { done(x, nil) })
}

// register asks for notifications, or asks anew: one that was lost on the way of a NAT
// or of a server that has started again dies without a word.
func (c *caller) register(now time.Time, o *observer, first func(response)) {
	t := &transfer{req: o.req, token: o.token, fixed: true, szx: c.szx, wanted: int(c.szx)}
	t.done = func(r response, err error) { first(r) }
	o.renew = now.Add(mostReobserve) // if the server does not tell
	c.begin(now, t)
}

func (c *caller) registered(now time.Time, t *transfer, r *response) {
	for _, o := range c.observers {
		if bytes.Equal(o.token, t.token) {
			o.accept(now, r)
		}
	}
}

func (o *observer) accept(now time.Time, r *response) {
	o.seq, o.heard = r.seq, now
	o.renew = now.Add(max(leastReobserve, min(r.MaxAge, mostReobserve)))
}

// notified takes a notification. What is older than what is known is ignored
// (RFC 7641 section 3.4). A body in blocks is fetched by a request of its own.
func (c *caller) notified(now time.Time, o *observer, m *message) {
	r := responseOf(m)
	if !m.code.success() { // the end of it; the next renewal asks again
		o.renew = now.Add(leastReobserve)
		return
	}
	newer := o.seq < r.seq && r.seq-o.seq < 1<<23 || o.seq > r.seq && o.seq-r.seq > 1<<23 || now.Sub(o.heard) > 128*time.Second
	if !r.obs || !newer {
		return
	}
	o.accept(now, &r)
	if b, has, _ := m.blockOption(optBlock2); has && b.more {
		plain := *o.req
		plain.observe = false
		c.start(now, &plain, func(r response, err error) {
			if err == nil {
				o.notify(r)
			}
		})
		return
	}
	c.later = append(c.later, func() { o.notify(r) })
}

// takeLater returns what is to be called without a lock.
func (c *caller) takeLater() []func() {
	out := c.later
	c.later = nil
	return out
}

// clientKnows reports whether a critical option may be in a response.
func clientKnows(id optionID) bool { return id == optBlock1 || id == optBlock2 }

// misunderstood returns a critical option that is not known.
func misunderstood(m *message, known func(optionID) bool) (optionID, bool) {
	for _, o := range m.options {
		if o.id.critical() && !known(o.id) {
			return o.id, true
		}
	}
	return 0, false
}

// responseOf copies a message.
func responseOf(m *message) response {
	r := response{code: m.code, Code: m.code.String(), ContentFormat: -1, Body: slices.Clone(m.payload), MaxAge: time.Minute}
	if v, ok := m.uint(optContentFormat); ok {
		r.ContentFormat = int(v)
	}
	if b, ok := m.get(optETag); ok {
		r.ETag = slices.Clone(b)
	}
	if v, ok := m.uint(optMaxAge); ok {
		r.MaxAge = time.Duration(v) * time.Second
	}
	if v, ok := m.uint(optSize1); ok && m.code == codeTooLarge {
		r.Limit = int(min(v, 1<<30))
	}
	r.seq, r.obs = m.uint(optObserve)
	return r
}

package coap

import (
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	separateAfter = 100 * time.Millisecond // a response that takes longer comes apart from the acknowledgement
	maxNotices    = 16                     // of one resource that wait to be told, the oldest goes
	maxWatches    = 8                      // resources that one peer observes; more are refused
	queueRetry    = 5 * time.Second        // what a client is told when there is no room
)

// server is what all peers of a listener have in common.
type server struct {
	handle func(*inbound) // called with no lock held; must not block
	bodies atomic.Int64   // bytes of bodies that are not whole, of all peers
	szx    uint8          // of the blocks that are asked for
	gone   func(*peer)
	stats  serverCounters
}

// peer is the server's end towards one client. Its methods are safe for concurrent
// use.
type peer struct {
	srv      *server
	name     string // for logs
	identity string // that the client has proved, "" for none
	write    func([]byte) error

	mu      sync.Mutex // guards what follows
	udp     *reliable  // nil over a stream
	stream  *streamOut // nil over datagrams
	blocks  *assembler
	watches []*watch
	timer   *time.Timer // of what is to be repeated
	heard   time.Time
	closed  bool
}

// watch is a resource that a peer observes.
type watch struct {
	path  string
	token []byte
	seq   uint32
	out   *outgoing // the notification that is under way
	queue [][]byte  // contents of the next ones, at most maxNotices, the oldest goes
}

// inbound is a request, whole.
type inbound struct {
	peer    *peer
	code    code
	path    []string
	format  int // -1 for none
	body    []byte
	etags   [][]byte
	observe int // 0 begin, 1 end, -1 nothing
	block2  *block

	kind     kind
	id       uint16
	token    []byte
	block1   *block // of the last block
	mu       sync.Mutex
	acked    bool // an empty acknowledgement has been sent
	replied  bool
	separate *time.Timer
}

func newPeer(s *server, name string, u *reliable, stream *streamOut, write func([]byte) error) *peer {
	return &peer{
		srv: s, name: name, udp: u, stream: stream, write: write, heard: time.Now(),
		blocks: newAssembler(&s.bodies, s.szx, stream != nil),
	}
}

// do runs f with the lock held and sends what came of it; then it runs what f returns.
func (p *peer) do(f func(now time.Time) (after func())) {
	p.mu.Lock()
	now := time.Now()
	var after func()
	if !p.closed {
		after = f(now)
		p.flush(now)
	}
	p.mu.Unlock()
	if after != nil {
		after()
	}
}

// flush writes datagrams and sets the timer; p.mu is held.
func (p *peer) flush(now time.Time) {
	if p.udp == nil {
		return
	}
	for _, b := range p.udp.take() {
		_ = p.write(b) // as good as lost
	}
	at := p.udp.wake(now)
	switch {
	case at.IsZero():
		if p.timer != nil {
			p.timer.Stop()
		}
	case p.timer == nil:
		p.timer = time.AfterFunc(at.Sub(now), p.tick)
	default:
		p.timer.Reset(at.Sub(now))
	}
}

func (p *peer) tick() {
	p.do(func(now time.Time) func() {
		for _, o := range p.udp.tick(now) {
			p.lost(o)
		}
		return nil
	})
}

// lost forgets a watch whose notification nobody has acknowledged.
func (p *peer) lost(o *outgoing) {
	p.watches = slices.DeleteFunc(p.watches, func(w *watch) bool { return w.out == o })
}

// close ends what the peer holds.
func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.blocks.close()
	if p.timer != nil {
		p.timer.Stop()
	}
}

// datagram takes a datagram from the client.
func (p *peer) datagram(b []byte) {
	p.do(func(now time.Time) (after func()) {
		var m message
		in, out := p.udp.receive(now, b, &m)
		p.heard = now
		switch {
		case in == asked:
			return p.request(now, &m)
		case in == refused: // it does not want to be told
			p.lost(out)
		case in == nothing && out != nil:
			p.told(now, out)
		case in == answered && m.kind == confirmable:
			p.udp.refuse(&m)
		}
		return nil
	})
}

// request takes a request, or a block of one.
func (p *peer) request(now time.Time, m *message) (after func()) {
	if _, bad := misunderstood(m, serverKnows); bad {
		p.answer(now, m, &message{code: codeBadOption})
		return nil
	}
	b1, has1, bad1 := m.blockOption(optBlock1)
	b2, has2, bad2 := m.blockOption(optBlock2)
	if bad1 || bad2 || b2.szx == bert && p.udp != nil {
		p.answer(now, m, &message{code: codeBadOption})
		return nil
	}
	x := &inbound{peer: p, code: m.code, format: -1, observe: -1, kind: m.kind, id: m.id}
	if has2 {
		x.block2 = &b2
	}
	if has1 {
		body, whole, reply := p.blocks.take(now, m, b1)
		if !whole {
			p.answer(now, m, reply)
			return nil
		}
		x.body, x.block1 = body, &b1
	} else {
		x.body = slices.Clone(m.payload)
	}
	p.read(x, m)
	if p.udp != nil && m.kind == confirmable {
		x.separate = time.AfterFunc(separateAfter, x.later)
	}
	return func() { p.srv.handle(x) }
}

// read copies what is asked for.
func (p *peer) read(x *inbound, m *message) {
	x.token = slices.Clone(m.token)
	for _, o := range m.options {
		switch o.id {
		case optURIPath:
			x.path = append(x.path, string(o.value))
		case optETag:
			x.etags = append(x.etags, slices.Clone(o.value))
		}
	}
	if v, ok := m.uint(optContentFormat); ok {
		x.format = int(v)
	}
	if v, ok := m.uint(optObserve); ok && v <= 1 && m.code == methodGet {
		x.observe = int(v)
	}
}

// serverKnows reports whether a critical option may be in a request.
func serverKnows(id optionID) bool {
	switch id {
	case optURIHost, optURIPort, optURIPath, optURIQuery, optAccept, optBlock1, optBlock2:
		return true
	}
	return false
}

// answer sends a response at once; p.mu is held.
func (p *peer) answer(now time.Time, req *message, m *message) {
	m.token = req.token
	switch {
	case p.stream != nil:
		p.stream.put(m)
	case req.kind == confirmable:
		p.udp.acknowledge(req.id, req.token, m)
	default:
		p.udp.once(now, m)
	}
}

// later acknowledges a request whose response takes long, so that the client does not
// repeat it.
func (x *inbound) later() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.replied {
		return
	}
	x.acked = true
	x.peer.do(func(time.Time) func() {
		x.peer.udp.acknowledge(x.id, x.token, nil)
		return nil
	})
}

// reply answers a request. It may be called once, from any goroutine, also after the
// client has gone.
func (x *inbound) reply(m *message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.replied {
		return
	}
	x.replied = true
	if x.separate != nil {
		x.separate.Stop()
	}
	m.token = x.token
	if x.block1 != nil {
		m.setBlock(optBlock1, block{num: x.block1.num, szx: x.block1.szx})
	}
	p := x.peer
	p.do(func(now time.Time) func() {
		switch {
		case p.stream != nil:
			p.stream.put(m)
		case x.kind != confirmable:
			p.udp.once(now, m)
		case x.acked:
			p.udp.confirm(now, m)
		default:
			p.udp.acknowledge(x.id, x.token, m)
		}
		return nil
	})
}

// content answers a GET with a body, in blocks if it is long, or with nothing but 2.03
// if the client holds it already. With observe the client is told when it changes.
func (x *inbound) content(format int, body []byte, observe bool) {
	tag := etag(body)
	if slices.ContainsFunc(x.etags, func(e []byte) bool { return string(e) == string(tag) }) {
		m := &message{code: codeValid}
		m.add(optETag, tag)
		x.reply(m)
		return
	}
	m, ok := slice(format, body, tag, x.block2, x.peer.stream != nil)
	if !ok {
		x.reply(&message{code: codeBadOption})
		return
	}
	if observe && x.observe >= 0 {
		if seq, ok := x.peer.watch(strings.Join(x.path, "/"), x.token, x.observe == 0); ok {
			m.addUint(optObserve, seq)
			m.addUint(optMaxAge, uint32(mostReobserve/time.Second))
		}
	}
	x.reply(m)
}

// slice makes the response with one block of a body, or all of it.
func slice(format int, body, tag []byte, want *block, stream bool) (*message, bool) {
	b := block{szx: largestSZX}
	if want != nil {
		b = *want
	}
	if b.offset() > 0 && b.offset() >= len(body) {
		return nil, false
	}
	m := &message{code: codeContent}
	if format >= 0 {
		m.addUint(optContentFormat, uint32(format))
	}
	m.add(optETag, tag)
	if want == nil && (stream || len(body) <= plainPayload) {
		m.payload = body
		return m, true
	}
	b.szx = min(b.szx, largestSZX)
	end := min(b.offset()+b.size(), len(body))
	b.more = end < len(body)
	m.setBlock(optBlock2, b)
	if b.num == 0 {
		m.addUint(optSize2, uint32(len(body)))
	}
	m.payload = body[b.offset():end]
	return m, true
}

// etag is a hash of the content; it need not withstand anybody.
func etag(body []byte) []byte {
	h := fnv.New64a()
	_, _ = h.Write(body)
	return h.Sum(nil)
}

// watch begins or ends an observation.
func (p *peer) watch(path string, token []byte, begin bool) (seq uint32, ok bool) {
	p.do(func(time.Time) func() {
		i := slices.IndexFunc(p.watches, func(w *watch) bool { return w.path == path && string(w.token) == string(token) })
		switch {
		case !begin && i >= 0:
			p.watches = slices.Delete(p.watches, i, i+1)
		case begin && i >= 0:
			p.watches[i].seq++
			seq, ok = p.watches[i].seq, true
		case begin && len(p.watches) < maxWatches:
			w := &watch{path: path, token: token, seq: 1}
			p.watches = append(p.watches, w)
			seq, ok = 1, true
		}
		return nil
	})
	return seq & 0xffffff, ok
}

// notify tells a peer that observes path what it holds now. It reports false when the
// peer does not observe it. What comes while a notification is under way waits for its
// end: acknowledgements of several epochs do not replace one another.
func (p *peer) notify(path string, format int, body []byte) (ok bool) {
	p.do(func(now time.Time) func() {
		for _, w := range p.watches {
			if w.path == path {
				ok = true
				if len(w.queue) == maxNotices {
					w.queue = slices.Delete(w.queue, 0, 1)
				}
				w.queue = append(w.queue, body)
				p.tell(now, w, format)
			}
		}
		return nil
	})
	return ok
}

func (p *peer) tell(now time.Time, w *watch, format int) {
	if w.out != nil || len(w.queue) == 0 {
		return
	}
	body := w.queue[0]
	w.queue = slices.Delete(w.queue, 0, 1)
	m, _ := slice(format, body, etag(body), nil, p.stream != nil)
	w.seq++
	m.addUint(optObserve, w.seq&0xffffff)
	m.addUint(optMaxAge, uint32(mostReobserve/time.Second))
	m.token = w.token
	if p.stream != nil {
		p.stream.put(m)
		return
	}
	w.out = p.udp.confirm(now, m)
}

// told sends what has come up since the notification that was acknowledged.
func (p *peer) told(now time.Time, o *outgoing) {
	for _, w := range p.watches {
		if w.out == o {
			w.out = nil
			p.tell(now, w, formatJSON)
		}
	}
}

// lastHeard returns when the client was heard last.
func (p *peer) lastHeard() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard
}

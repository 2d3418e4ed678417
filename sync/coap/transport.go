package coap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

const (
	window         = 64      // messages without a result
	datagramWindow = 4       // of them the engine uses so many over datagrams: the rest would only wait here
	datagramBytes  = 8 << 10 // of a message over datagrams: eight round trips, and an alarm waits no longer
	streamBytes    = 256 << 10
)

// Options say who sends.
type Options struct {
	Tenant string // default "default"
	Device string // required
	// Acks asks for end-to-end acks: the ack resource is observed before a session is
	// up.
	Acks bool
	// Dial opens connections; default [net.Dialer.DialContext].
	Dial DialFunc
	// Dir is where relative names of certificate files start.
	Dir string
	// Now is what certificates are held against; default [time.Now].
	Now func() time.Time
	// Logger gets refusals at debug level; default none.
	Logger *slog.Logger
	// Trace, if any, is told how sessions begin.
	Trace *Trace
}

// Transport sends over one link. It holds no connection between sessions and is safe
// for concurrent use.
type Transport struct {
	link  link
	paths [4][]string // by lane
	ack   []string
	acks  bool
	stats struct{ sessions, retransmitted atomic.Uint64 }
	// unauthorized: the last message that was answered for good was answered 4.01.
	unauthorized atomic.Bool
}

// TransportStats counts what a transport has seen.
type TransportStats struct {
	Sessions      uint64 // that came up
	Retransmitted uint64 // datagrams that were sent again
}

var _ uplink.Transport = (*Transport)(nil)

// New returns a transport for one link. It opens nothing yet. A path in the link's URL
// stands in place of ea/v1/{tenant}/{device}/d/{lane}; {tenant}, {device} and {lane} in it
// are replaced.
func New(cfg uplink.LinkConfig, o Options) (*Transport, error) {
	if o.Tenant == "" {
		o.Tenant = "default"
	}
	if err := errors.Join(validName("device.tenant", o.Tenant), validName("device.id", o.Device)); err != nil {
		return nil, err
	}
	l, err := newLink(cfg, o.Dial, o.Logger)
	if err != nil {
		return nil, err
	}
	l.dir, l.trace = o.Dir, o.Trace
	if o.Now != nil {
		l.now = o.Now
	}
	t := &Transport{link: l, acks: o.Acks, ack: []string{"ea", "v1", o.Tenant, o.Device, "ack"}}
	for i := range t.paths {
		t.paths[i] = lanePath(l.url, o.Tenant, o.Device, uplink.Lane(i).String())
	}
	return t, nil
}

func lanePath(u *url.URL, tenant, device, lane string) []string {
	path := strings.Trim(u.Path, "/")
	if path == "" {
		path = "ea/v1/{tenant}/{device}/d/{lane}"
	}
	parts := strings.Split(path, "/")
	for i := range parts {
		for _, x := range [][2]string{{"{tenant}", tenant}, {"{device}", device}, {"{lane}", lane}} {
			parts[i] = strings.ReplaceAll(parts[i], x[0], x[1])
		}
	}
	return parts
}

// validName refuses what would change the shape of a path, or of the topic that it
// stands for.
func validName(key, name string) error {
	switch {
	case name == "":
		return edgeagent.WithHint(errors.New(key+" is empty"), "set "+key)
	case len(name) > 128:
		return edgeagent.WithHint(fmt.Errorf("%s of %d bytes is over 128", key, len(name)), "shorten "+key)
	case strings.ContainsAny(name, "/+#\x00") || name[0] == '$':
		return edgeagent.WithHint(fmt.Errorf("%s %q cannot stand in a path", key, name),
			`choose a `+key+` without "/", "+", "#" and a leading "$"`)
	}
	return nil
}

// String names the link without secrets.
func (t *Transport) String() string { return t.link.String() }

// Stats returns the counters.
func (t *Transport) Stats() TransportStats {
	return TransportStats{Sessions: t.stats.sessions.Load(), Retransmitted: t.stats.retransmitted.Load()}
}

// Session implements [uplink.Transport].
func (t *Transport) Session(ctx context.Context, h uplink.Handler, start func(context.Context, uplink.Session)) error {
	c, err := t.link.connect(ctx)
	if err != nil {
		return err
	}
	up, end := context.WithCancelCause(ctx)
	s := &session{
		t: t, conn: c, over: up.Done(), cause: func() error { return context.Cause(up) }, end: end,
		slots: make(chan struct{}, window), results: make(chan outcome, window), acks: make(chan []byte, 16),
	}
	var running sync.WaitGroup
	running.Go(func() { end(c.run(up)) })
	defer running.Wait()
	defer end(nil)
	if err := t.hello(up, s); err != nil {
		return fmt.Errorf("connect to %s: %w", t, err)
	}
	t.stats.sessions.Add(1)
	h.Up(t.caps(c))
	var working sync.WaitGroup
	working.Go(func() { start(up, s) })
	s.report(h)
	working.Wait()
	t.stats.retransmitted.Add(c.retransmitted())
	return s.cause()
}

// caps are what the engine may do.
func (t *Transport) caps(c *conn) uplink.Caps {
	caps := uplink.Caps{MaxInFlight: datagramWindow, MaxMessage: datagramBytes, KeepAlive: c.keepAlive, ReasonCodes: true}
	if c.stream != nil {
		caps.MaxInFlight, caps.MaxMessage = window, streamBytes
	}
	return caps
}

// hello makes sure that somebody is there: with end-to-end acks a hub, that tells what
// it holds and will tell more.
func (t *Transport) hello(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, fmt.Errorf("no answer within %v", connectTimeout))
	defer cancel()
	if !t.acks {
		err := s.conn.alive(ctx)
		if err == nil {
			t.link.trace.answered()
		}
		return err
	}
	r, err := s.conn.observe(ctx, &request{Method: methodGet, Path: t.ack, ContentFormat: -1, Accept: -1}, s.takeAck)
	switch {
	case err != nil:
		return err
	case r.code == codeUnauthorized || r.code == codeForbidden:
		return uplink.Refused("may not speak for "+strings.Join(t.ack[2:4], "/")+" ("+r.Code+")", authHint)
	case r.code.success():
		s.takeAck(r)
		s.conn.hasTags()
	}
	t.link.trace.observed(strings.Join(t.ack, "/"))
	return nil
}

// hasTags is called when the server has shown that it is a hub: those tell bodies for one
// resource apart, so more than one may be on its way where nstart allows it.
func (c *conn) hasTags() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caller.tags = c.udp != nil && c.udp.nstart > 1
}

const authHint = "the hub must know the identity in destinations[].links[].username, or the name in tls.cert, as this device"

// session is a connection that is up.
type session struct {
	t     *Transport
	conn  *conn
	over  <-chan struct{}
	cause func() error
	end   context.CancelCauseFunc

	slots   chan struct{} // one for each message without a result
	results chan outcome  // never holds more than slots
	acks    chan []byte   // cumulative: the oldest goes
}

// outcome is what became of a message.
type outcome struct {
	id  uint64
	r   response
	err error
}

// Send begins to send m. It waits while 64 messages are without a result. The payload
// must not change until the result of m has come or the session has ended.
func (s *session) Send(ctx context.Context, m uplink.Message) error {
	if int(m.Lane) >= len(s.t.paths) {
		return fmt.Errorf("send: unknown lane %d", m.Lane)
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.over:
		return s.cause()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	req := &request{
		Method: methodPost, Path: s.t.paths[m.Lane], ContentFormat: contentFormat(m.ContentType), Accept: -1,
		Body: m.Payload, Priority: int(m.Lane),
	}
	if m.ContentType != uplink.FormatBlock && m.Identity.Count > 0 {
		req.Query = identity(m.Identity)
	}
	s.conn.start(req, func(r response, err error) { s.results <- outcome{m.ID, r, err} })
	return nil
}

// identity tells a receiver of text which records these are.
func identity(h edgeagent.BatchHeader) []string {
	return []string{
		"epoch=" + h.Epoch.String(), "run=" + h.Run.String(), "stream=" + h.Stream.String(),
		fmt.Sprintf("first=%d", h.First), fmt.Sprintf("count=%d", h.Count),
	}
}

// contentFormat returns the number of a payload format.
func contentFormat(name string) int {
	switch name {
	case uplink.FormatBlock, "":
		return formatBlock
	case uplink.FormatJSON:
		return formatJSON
	case uplink.FormatSenMLJSON:
		return formatSenMLJSON
	case uplink.FormatSenMLCBOR:
		return formatSenMLCBOR
	}
	return formatText
}

// takeAck queues an end-to-end ack from any goroutine.
func (s *session) takeAck(r response) {
	if !r.code.success() || len(r.Body) == 0 {
		return
	}
	for {
		select {
		case s.acks <- r.Body:
			return
		default:
		}
		select {
		case <-s.acks:
		default:
		}
	}
}

// report hands results and acks to h until the session ends.
func (s *session) report(h uplink.Handler) {
	for {
		select {
		case x := <-s.results:
			s.result(h, x)
		case a := <-s.acks:
			h.Ack(a)
		case <-s.over:
			for { // what came before the end is not sent twice without need
				select {
				case x := <-s.results:
					s.result(h, x)
				default:
					return
				}
			}
		}
	}
}

// result sorts a response by what the sender has to do.
func (s *session) result(h uplink.Handler, x outcome) {
	<-s.slots
	out := uplink.Result{ID: x.id, Class: classOf(x.r.code)}
	switch {
	case x.err != nil:
		out.Class, out.Err = uplink.Unknown, x.err
	case out.Class == uplink.Accepted:
		s.t.unauthorized.Store(false)
		h.Result(out)
		if s.t.acks && len(x.r.Body) > 0 && x.r.ContentFormat == formatJSON {
			h.Ack(x.r.Body)
		}
		return
	default:
		out.Err = errorOf(x.r)
		if out.Class == uplink.Throttled {
			out.After = pause(x.r)
		}
	}
	s.t.link.log.Debug("message refused", "link", s.t.String(), "class", out.Class.String(), "error", out.Err)
	h.Result(out)
	if x.err == nil && x.r.code == codeUnauthorized {
		s.end(s.t.notAuthorized())
	}
}

// notAuthorized says how a session ends that was answered 4.01. A server that has
// forgotten whom it has shaken hands with, or has a new key, says so: the first time a
// new session is worth a try, the next time a person has to mend it.
func (t *Transport) notAuthorized() error {
	if t.unauthorized.Swap(true) {
		return uplink.Refused("it answers 4.01 Unauthorized", authHint)
	}
	return edgeagent.WithHint(errors.New("it answers 4.01 Unauthorized, a new session is tried once"), authHint)
}

// classOf sorts response codes. An unsupported content format is for a person to mend:
// it is the same with every message, and must not make all of them dead letters.
func classOf(c code) uplink.Class {
	switch c {
	case codeTooMany, codeUnavailable:
		return uplink.Throttled
	case codeUnauthorized, codeForbidden, codeNotFound, codeMethodNotAllowed, codeNotAcceptable, codeUnsupportedFormat, codeNotImplemented:
		return uplink.ConfigError
	}
	switch {
	case c.success():
		return uplink.Accepted
	case c>>5 == 4:
		return uplink.Poison
	}
	return uplink.Throttled // 5.xx: the server's own trouble
}

// errorOf makes an error of a refusal.
func errorOf(r response) error {
	err := fmt.Errorf("the server answers %s", r.Code)
	if r.Limit > 0 {
		err = fmt.Errorf("the server answers %s: it takes %d bytes", r.Code, r.Limit)
	}
	if len(r.Body) > 0 {
		err = fmt.Errorf("%w: %.100q", err, r.Body)
	}
	switch r.code {
	case codeNotFound, codeMethodNotAllowed:
		return edgeagent.WithHint(err, "check the path in destinations[].links[].url")
	case codeUnsupportedFormat, codeNotAcceptable:
		return edgeagent.WithHint(err, "set destinations[].format to one that the server takes")
	case codeUnauthorized, codeForbidden:
		return edgeagent.WithHint(err, authHint)
	}
	return err
}

// pause is how long a server wants to be left alone: Max-Age, a minute if it does not
// say (RFC 8516, RFC 7252 section 5.9.3.4), give or take a fifth, so that not all
// come back at once. Other trouble of the server's gets the engine's own back-off.
func pause(r response) time.Duration {
	if r.code != codeTooMany && r.code != codeUnavailable {
		return 0
	}
	return time.Duration(float64(r.MaxAge) * (0.8 + 0.4*rand.Float64()))
}

// retransmitted returns how many datagrams were sent again.
func (c *conn) retransmitted() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.udp == nil {
		return 0
	}
	return c.udp.counters.retransmitted
}

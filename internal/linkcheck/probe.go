package linkcheck

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// lanes are the topics that are published to.
var lanes = [...]uplink.Lane{uplink.LaneAlarm, uplink.LaneEvent, uplink.LaneLive, uplink.LaneBacklog}

// soonExpired is how long before its end a certificate is worth a warning.
const soonExpired = 14 * 24 * time.Hour

// probe is one attempt.
type probe struct {
	target Target
	opts   Options

	mu    sync.Mutex // guards what follows
	steps []Step
	last  time.Time // when the step before was done
}

// done notes that a step is behind us. A session that begins anew, with another
// protocol, does the first steps again.
func (p *probe) done(name string, state State, text, hint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i := range p.steps {
		if s := &p.steps[i]; s.Name == name {
			*s = Step{name, state, now.Sub(p.last), text, hint}
		}
	}
	p.last = now
}

func (p *probe) ok(name, format string, args ...any) {
	p.done(name, OK, fmt.Sprintf(format, args...), "")
}

// fail blames the first step that is not done.
func (p *probe) fail(err error) {
	p.mu.Lock()
	name := ""
	for _, s := range p.steps {
		if s.State == Skipped {
			name = s.Name
			break
		}
	}
	p.mu.Unlock()
	if name == "" {
		return
	}
	hint := hintOf(err, hints[name])
	if name == StepTLS && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		hint = "the port does not speak TLS, or nothing newer than 1.2: use mqtt://, the broker's TLS port, or destinations[].links[].tls.min_version: \"1.2\""
	}
	p.done(name, Failed, err.Error(), hint)
}

// hints are what to do about a failure that says nothing of it.
var hints = map[string]string{
	StepDNS:       "check the host in destinations[].links[].url and the machine's name server",
	StepTCP:       "check the address in destinations[].links[].url, that the broker's machine runs, and what firewalls are on the way",
	StepProxy:     "check destinations[].links[].proxy.url",
	StepTLS:       "check destinations[].links[].tls.ca and server_name",
	StepWebSocket: "check the path in destinations[].links[].url, often /mqtt",
	StepLogin:     "check that destinations[].links[].url names an MQTT port, then its username and password",
	StepPing:      "check the host and port in destinations[].links[].url: CoAP listens on 5683, with DTLS on 5684, and firewalls must let UDP through",
	StepSubscribe: "let the broker's access list allow reading the ack topic to the user in destinations[].links[].username",
	StepPublish:   "look at the broker's log and its access list: the session ended while a message was being sent",
	StepAck:       "let the broker's access list allow writing below d/ to the user in destinations[].links[].username; the broker's log says more",
	StepReceiver:  "check that the receiver runs, hears this broker and is named as in destinations[].receiver; with nobody to answer use destinations[].ack: transport",
}

// trace notes the steps that happen inside a transport.
func (p *probe) trace() *mqtt.Trace {
	return &mqtt.Trace{
		Reached: func() {
			if p.target.Link.Proxy.URL != "" {
				p.ok(StepProxy, "lets us through")
			}
		},
		Secured:    p.secured,
		Upgraded:   func() { p.ok(StepWebSocket, "upgraded") },
		LoggedIn:   func(protocol string) { p.ok(StepLogin, "%s as %s", protocol, clientID(p.target, p.opts)) },
		Subscribed: func(topic string) { p.ok(StepSubscribe, "%s", topic) },
	}
}

func (p *probe) secured(s tls.ConnectionState) { p.securedBy(tls.VersionName(s.Version), s) }

func (p *probe) securedBy(text string, s tls.ConnectionState) {
	if len(s.PeerCertificates) == 0 {
		p.ok(StepTLS, "%s", text)
		return
	}
	end := s.PeerCertificates[0].NotAfter
	text += ", certificate valid until " + end.UTC().Format("2006-01-02")
	if end.Sub(p.opts.Now()) < soonExpired {
		p.done(StepTLS, Warning, text, "renew the broker's certificate: links stop working when it ends")
		return
	}
	p.ok(StepTLS, "%s", text)
}

// dial looks the name up and connects, each for itself.
func (p *probe) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) == nil {
		found, err := p.opts.Resolve(ctx, host)
		if err == nil && len(found) == 0 {
			err = errors.New("no address for " + host)
		}
		if err != nil {
			return nil, edgeagent.WithHint(fmt.Errorf("look up %s: %w", host, err), hints[StepDNS])
		}
		p.ok(StepDNS, "%s is %s", host, strings.Join(found[:min(len(found), 4)], ", "))
	}
	c, err := p.opts.Dial(ctx, network, addr)
	if err != nil {
		return nil, explainDial(err, port)
	}
	p.ok(StepTCP, "connected to %s", c.RemoteAddr())
	return c, nil
}

func explainDial(err error, port string) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return edgeagent.WithHint(err, "nothing listens on port "+port+" there: check the port in destinations[].links[].url, and that the broker runs")
	}
	return err
}

// run tries the whole way and notes where it ended.
func (p *probe) run(ctx context.Context, transport uplink.Transport) {
	ctx, finish := context.WithCancel(ctx)
	defer finish()
	h := &inbox{results: make(chan uplink.Result, len(lanes)), acks: make(chan []byte, 16)}
	var verdict error
	talked := false
	err := transport.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
		verdict, talked = p.talk(ctx, s, h), true
		finish()
	})
	if talked {
		err = verdict
	}
	if err != nil {
		p.fail(explainTLS(err, p.opts.Now()))
	}
}

// ended says why a session that was up is over. Brokers that cannot refuse a topic
// hang up instead.
func (p *probe) ended(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, errLate) {
		return err
	}
	return edgeagent.WithHint(err, hints[StepAck])
}

// talk publishes and waits for the answers. It returns nil when all steps are done, or
// why the one that is next is not.
func (p *probe) talk(ctx context.Context, s uplink.Session, h *inbox) error {
	for i, lane := range lanes {
		m := uplink.Message{ID: uint64(i), Lane: lane, Payload: payload(p.target), ContentType: p.target.Destination.Format}
		if err := s.Send(ctx, m); err != nil {
			return fmt.Errorf("publish to lane %s: %w", lane, err)
		}
	}
	p.ok(StepPublish, "%s", mqtt.DataTopic(p.target.Tenant, p.target.Device, "+"))
	late := time.NewTimer(p.opts.Answer)
	defer late.Stop()
	if err := p.awaitAcks(ctx, h, late.C); err != nil {
		return err
	}
	if p.target.Destination.Ack != uplink.AckEndToEnd {
		return nil
	}
	late.Reset(p.opts.Answer)
	return p.awaitReceiver(ctx, h, late.C)
}

// awaitAcks waits for the broker's word on each message.
func (p *probe) awaitAcks(ctx context.Context, h *inbox, late <-chan time.Time) error {
	unheard := 0
	for n := range lanes {
		select {
		case r := <-h.results:
			switch r.Class {
			case uplink.Accepted:
			case uplink.NoReceiver:
				unheard++
			default:
				return p.refused(r)
			}
		case <-late:
			return edgeagent.WithHint(fmt.Errorf("%d of %d messages acknowledged within %v", n, len(lanes), p.opts.Answer),
				"the broker is stuck or throttles this client: look at its log")
		case <-ctx.Done():
			return p.ended(ctx)
		}
	}
	if !h.caps.ReasonCodes {
		if err := p.outlive(ctx); err != nil {
			return err
		}
	}
	if unheard > 0 && p.target.Destination.NoSubscriber != uplink.AcceptAnyway {
		p.done(StepAck, Warning, fmt.Sprintf("taken, but nobody is subscribed to %d of %d topics", unheard, len(lanes)),
			"what is unheard waits here: start what should read "+mqtt.DataTopic(p.target.Tenant, p.target.Device, "#")+" and let it subscribe, or set destinations[].no_subscriber: accept")
		return nil
	}
	text := fmt.Sprintf("%d messages", len(lanes))
	if !h.caps.ReasonCodes {
		text += "; MQTT 3.1.1 acknowledges forbidden topics, too"
	}
	p.ok(StepAck, "%s", text)
	return nil
}

// outlive waits for a session that is about to be ended because of what was published.
// The receiver's answer proves more, so nothing is waited for where that comes next.
func (p *probe) outlive(ctx context.Context) error {
	if p.target.Destination.Ack == uplink.AckEndToEnd {
		return nil
	}
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return p.ended(ctx)
	}
}

func (p *probe) refused(r uplink.Result) error {
	topic := mqtt.DataTopic(p.target.Tenant, p.target.Device, lanes[r.ID].String())
	err := r.Err
	if err == nil {
		err = errors.New(r.Class.String())
	}
	return fmt.Errorf("publish to %s: %w", topic, err)
}

// awaitReceiver waits for the answer to our marks.
func (p *probe) awaitReceiver(ctx context.Context, h *inbox, late <-chan time.Time) error {
	others := ""
	for {
		select {
		case b := <-h.acks:
			a, err := edgeagent.ParseAck(b)
			switch {
			case err != nil:
				return fmt.Errorf("the answer is not an acknowledgement: %w", err)
			case a.Epoch != 0: // for the running agent
			case a.By != p.target.Destination.Receiver:
				others = a.By
			default:
				p.ok(StepReceiver, "%s answers", a.By)
				return nil
			}
		case <-late:
			if others != "" {
				return edgeagent.WithHint(fmt.Errorf("%q answers, not %q", others, p.target.Destination.Receiver),
					fmt.Sprintf("set destinations[].receiver: %s", others))
			}
			return fmt.Errorf("no answer of %q within %v", p.target.Destination.Receiver, p.opts.Answer)
		case <-ctx.Done():
			return p.ended(ctx)
		}
	}
}

// inbox takes what comes back. Its channels have room for all that is of use.
type inbox struct {
	caps    uplink.Caps
	results chan uplink.Result
	acks    chan []byte
}

func (h *inbox) Up(c uplink.Caps) { h.caps = c }

func (h *inbox) Result(r uplink.Result) {
	select {
	case h.results <- r:
	default:
	}
}

func (h *inbox) Ack(b []byte) {
	select {
	case h.acks <- b:
	default: // of a running agent: ours comes again with the next check
	}
}

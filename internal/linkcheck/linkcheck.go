package linkcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// Defaults of [Options].
const (
	DefaultTimeout = 30 * time.Second
	// answerWithin is how long a broker or a receiver may take for an answer.
	answerWithin = 10 * time.Second
	// settle is how long a session must outlive an acknowledgement that says
	// nothing: a broker that forbids a topic acknowledges first and hangs up then.
	settle = 500 * time.Millisecond
)

var errLate = errors.New("the check ran out of time")

// Suffix is what the check puts behind the agent's client id.
const Suffix = "-check"

// Target is one link of one destination.
type Target struct {
	Tenant, Device string
	Destination    uplink.Config // with defaults
	Link           uplink.LinkConfig
	// Marks is what is published as format block: marks of epoch 0.
	Marks []byte
}

// Options change how a link is tried. The zero value is good.
type Options struct {
	// Timeout bounds the check of one link; default [DefaultTimeout].
	Timeout time.Duration
	// Answer bounds the wait for an acknowledgement and for the receiver's answer;
	// default 10 s.
	Answer time.Duration
	// ClientID is used instead of the agent's with [Suffix].
	ClientID string
	// Dir is where relative names of certificate files start.
	Dir string
	// Now is what certificates are held against; default [time.Now].
	Now func() time.Time
	// Resolve looks a host up; default the system's resolver.
	Resolve func(ctx context.Context, host string) ([]string, error)
	// Dial opens connections; default [net.Dialer.DialContext].
	Dial mqtt.DialFunc
}

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Answer <= 0 {
		o.Answer = answerWithin
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Resolve == nil {
		o.Resolve = net.DefaultResolver.LookupHost
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o
}

// The steps, in their order. A link has those that it needs.
const (
	StepDNS       = "dns"
	StepTCP       = "tcp"
	StepProxy     = "proxy"
	StepTLS       = "tls"
	StepWebSocket = "websocket"
	StepLogin     = "login"
	StepSubscribe = "subscribe"
	StepPublish   = "publish"
	StepAck       = "ack"      // of the broker
	StepReceiver  = "receiver" // its answer, end to end
)

// State is what became of a step, or the worst of a link.
type State string

// The states, worst last.
const (
	Skipped State = "skipped" // not reached
	OK      State = "ok"
	Warning State = "warning" // works, and something about it needs attention
	Failed  State = "failed"
)

// Step is one step of the way.
type Step struct {
	Name  string
	State State
	Took  time.Duration // since the step before was done
	Text  string        // what was found
	Hint  string        // what to do, of warnings and failures
}

// Result is what became of a link.
type Result struct {
	Link     string // without secrets
	ClientID string
	State    State
	Steps    []Step
	// EndToEnd: the receiver answered. Otherwise the broker's word is all there is.
	EndToEnd bool
}

// Check tries a link. What is wrong with the link is in the result; an error is about
// the configuration.
func Check(ctx context.Context, t Target, o Options) (Result, error) {
	o = o.withDefaults()
	u, err := url.Parse(t.Link.URL)
	if err != nil {
		return Result{}, fmt.Errorf("parse link url: %w", err)
	}
	p := &probe{target: t, opts: o, steps: plan(u, t)}
	link := t.Link
	var transport uplink.Transport
	if uplink.IsCoAP(link.URL) {
		transport, err = p.newCoAP()
	} else {
		link.ClientID = clientID(t, o)
		transport, err = mqtt.New(link, mqtt.Options{
			Tenant: t.Tenant, Device: t.Device, Acks: t.Destination.Ack == uplink.AckEndToEnd,
			NeedReasons: t.Destination.Ack == uplink.AckReason,
			Dial:        p.dial, Dir: o.Dir, Now: o.Now, Trace: p.trace(),
		})
	}
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, errLate)
	defer cancel()
	p.last = time.Now()
	p.run(ctx, transport)
	return p.result(transport.String(), link.ClientID), nil
}

func clientID(t Target, o Options) string {
	switch {
	case o.ClientID != "":
		return o.ClientID
	case t.Link.ClientID != "":
		return t.Link.ClientID + Suffix
	}
	return "edgeagent-" + t.Tenant + "-" + t.Device + Suffix
}

// plan lists the steps that a link has.
func plan(u *url.URL, t Target) []Step {
	secure := slices.Contains([]string{"mqtts", "ssl", "tls", "wss", "coaps", "coaps+tcp"}, u.Scheme)
	host := u.Hostname()
	if t.Link.Proxy.URL != "" {
		if _, via := t.Link.Proxy.Address(); via != "" {
			host, _, _ = net.SplitHostPort(via)
		}
	}
	var steps []Step
	isCoAP := uplink.IsCoAP(t.Link.URL)
	add := func(when bool, name string) {
		if when && (!isCoAP || coapStep(u, t, name)) {
			steps = append(steps, Step{Name: name, State: Skipped})
		}
	}
	endToEnd := t.Destination.Ack == uplink.AckEndToEnd
	add(net.ParseIP(host) == nil, StepDNS)
	add(true, StepTCP)
	add(t.Link.Proxy.URL != "", StepProxy)
	add(secure, StepTLS)
	add(u.Scheme == "ws" || u.Scheme == "wss", StepWebSocket)
	add(true, StepLogin)
	add(isCoAP, StepPing)
	add(endToEnd, StepSubscribe)
	add(true, StepPublish)
	add(true, StepAck)
	add(endToEnd, StepReceiver)
	return steps
}

// payload is a message without a record in it.
func payload(t Target) []byte {
	switch t.Destination.Format {
	case uplink.FormatLine:
		return []byte("# edgeagent sync check\n") // a comment
	case uplink.FormatSenMLJSON:
		return []byte("[]")
	case uplink.FormatSenMLCBOR:
		return []byte{0x80} // an empty list
	case uplink.FormatBlock:
		return t.Marks
	}
	return []byte("\n") // a line of JSON that is none
}

// result sums up.
func (p *probe) result(link, clientID string) Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Result{Link: link, ClientID: clientID, State: OK, Steps: p.steps}
	for _, s := range p.steps {
		switch {
		case s.State == Failed:
			r.State = Failed
		case s.State == Warning && r.State != Failed:
			r.State = Warning
		}
		r.EndToEnd = r.EndToEnd || s.Name == StepReceiver && (s.State == OK || s.State == Warning)
	}
	return r
}

// hintOf returns the first hint in err, or fallback.
func hintOf(err error, fallback string) string {
	if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
		return h.Hint()
	}
	return fallback
}

package linkcheck

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"

	"github.com/edgeagent/edgeagent/sync/coap"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// StepPing is a CoAP server's sign of life: what a login is elsewhere.
const StepPing = "ping"

// newCoAP returns the transport of a CoAP link.
func (p *probe) newCoAP() (uplink.Transport, error) {
	return coap.New(p.target.Link, coap.Options{
		Tenant: p.target.Tenant, Device: p.target.Device, Acks: p.target.Destination.Ack == uplink.AckEndToEnd,
		Dial: p.dial, Dir: p.opts.Dir, Now: p.opts.Now,
		Trace: &coap.Trace{
			Secured: func(protocol string, chain []*x509.Certificate) {
				p.securedBy(protocol, tls.ConnectionState{PeerCertificates: chain})
			},
			Answered: func() { p.ok(StepPing, "answered") },
			Observed: func(path string) { p.ok(StepSubscribe, "%s", path) },
		},
	})
}

// coapStep says whether a CoAP link has a step; datagrams have no connection to make.
func coapStep(u *url.URL, t Target, name string) bool {
	switch name {
	case StepTCP:
		return u.Scheme == "coap+tcp" || u.Scheme == "coaps+tcp"
	case StepTLS:
		return u.Scheme == "coaps" || u.Scheme == "coaps+tcp"
	case StepPing:
		return t.Destination.Ack != uplink.AckEndToEnd
	case StepLogin:
		return false
	}
	return true
}

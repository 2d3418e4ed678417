package uplink

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// coapAckTimeout is the default of ack_timeout when the first link is CoAP: one message
// is several round trips there, each of which may have to be repeated.
const coapAckTimeout = 2 * time.Minute

// IsCoAP reports whether a link's URL is one of CoAP: coap, coaps, coap+tcp, coaps+tcp.
func IsCoAP(link string) bool {
	scheme, _, _ := strings.Cut(link, "://")
	return slices.Contains([]string{"coap", "coaps", "coap+tcp", "coaps+tcp"}, scheme)
}

// firstIsCoAP reports whether the link that is tried first is CoAP.
func (c Config) firstIsCoAP() bool { return len(c.Links) > 0 && IsCoAP(c.Links[0].URL) }

// validateCompression refuses what CoAP has no way to say: that a payload is compressed.
func (c Config) validateCompression(d Config) error {
	if d.Compression == NoCompression || !slices.ContainsFunc(c.Links, func(l LinkConfig) bool { return IsCoAP(l.URL) }) {
		return nil
	}
	return hinted("compression", errors.New("a CoAP server is not told that a message is compressed"), "drop compression, or use format: block with a hub")
}

// validateCoAP checks what only CoAP links have, or cannot have.
func (l LinkConfig) validateCoAP() error {
	u, err := url.Parse(l.URL)
	if err != nil {
		return nil // has been said
	}
	if l.NStart != 0 {
		if err := l.validateNStart(u.Scheme); err != nil {
			return err
		}
	}
	if !IsCoAP(l.URL) {
		return nil
	}
	psk := l.Username != "" || !l.Password.IsZero()
	var errs []error
	switch {
	case psk && u.Scheme != "coaps":
		errs = append(errs, hinted("username", fmt.Errorf("%s has no login", u.Scheme),
			"username and password are a pre-shared key, with coaps:// alone; use tls.cert and tls.key with coaps+tcp://"))
	case psk && l.Password.IsZero():
		errs = append(errs, edgeagent.Field("password", "a pre-shared key is username (its identity) and password (the key)"))
	case psk && !l.TLS.isZero():
		errs = append(errs, hinted("tls", errors.New("a link has a pre-shared key or certificates, not both"), "drop username and password, or tls"))
	case u.Scheme == "coaps" && l.TLS.MinVersion == "1.3":
		errs = append(errs, hinted("tls.min_version", errors.New("there is no DTLS 1.3 in this release"), "drop min_version, or use coaps+tcp://"))
	}
	if l.Proxy.URL != "" {
		errs = append(errs, hinted("proxy", errors.New("no proxy speaks CoAP"), "use mqtts:// or wss:// through a proxy"))
	}
	if l.ClientID != "" {
		errs = append(errs, hinted("client_id", errors.New("CoAP has no client ids"), "drop client_id"))
	}
	return errors.Join(errs...)
}

// mostNStart is what four messages of the engine over datagrams can make use of.
const mostNStart = 4

func (l LinkConfig) validateNStart(scheme string) error {
	if scheme != "coap" && scheme != "coaps" {
		return hinted("nstart", errors.New("nstart is of CoAP over datagrams"), "leave it away, or use coap:// or coaps://")
	}
	if l.NStart < 1 || l.NStart > mostNStart {
		return edgeagent.Field("nstart", "%d is out of range, want 1 to %d", l.NStart, mostNStart)
	}
	return nil
}

package uplink

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// TLSConfig is how a link is secured. It names files; they are read anew for each
// session, so that certificates can be renewed in place.
type TLSConfig struct {
	CA         string   `yaml:"ca"`          // PEM file of the authorities to trust; default the system's
	Cert       string   `yaml:"cert"`        // PEM file of the client's certificate and its chain
	Key        string   `yaml:"key"`         // PEM file of its private key
	ServerName string   `yaml:"server_name"` // that the server's certificate must bear; default the host of url
	Pins       []string `yaml:"pins"`        // sha256/<base64> of the server's public key; one must match as well
	ALPN       []string `yaml:"alpn"`        // protocols to offer, most wanted first
	MinVersion string   `yaml:"min_version"` // "1.3" (default) or "1.2"
}

const pinPrefix = "sha256/"

func (c TLSConfig) isZero() bool {
	return c.CA == "" && c.Cert == "" && c.Key == "" && c.ServerName == "" && len(c.Pins) == 0 && len(c.ALPN) == 0 && c.MinVersion == ""
}

// Validate says what is wrong without looking at the files.
func (c TLSConfig) Validate() error {
	var errs []error
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, edgeagent.Field("cert", "cert and key belong together"))
	}
	for i, p := range c.Pins {
		if _, err := pinned(p); err != nil {
			errs = append(errs, edgeagent.InField("pins["+strconv.Itoa(i)+"]", hinted("", err,
				"openssl x509 -in server.pem -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64")))
		}
	}
	for i, p := range c.ALPN {
		if p == "" || len(p) > 255 {
			errs = append(errs, edgeagent.Field("alpn["+strconv.Itoa(i)+"]", "a protocol has 1 to 255 bytes"))
		}
	}
	if !slices.Contains([]string{"", "1.2", "1.3"}, c.MinVersion) {
		errs = append(errs, edgeagent.Field("min_version", "unknown TLS version %q, want \"1.3\" or \"1.2\"", c.MinVersion))
	}
	return errors.Join(errs...)
}

func pinned(pin string) ([]byte, error) {
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(pin, pinPrefix))
	if err != nil || len(sum) != sha256.Size || !strings.HasPrefix(pin, pinPrefix) {
		return nil, fmt.Errorf("pin %q is not %s and 44 base64 digits", pin, pinPrefix)
	}
	return sum, nil
}

// Client returns what secures a connection to host. Relative file names start at
// dir. now is the time that certificates are held against: on a machine whose clock
// was never set, no earlier than the latest time it can know of.
func (c TLSConfig) Client(host, dir string, now func() time.Time) (*tls.Config, error) {
	out := &tls.Config{
		ServerName: or(c.ServerName, host), MinVersion: tls.VersionTLS13, NextProtos: c.ALPN, Time: now,
	}
	if c.MinVersion == "1.2" {
		out.MinVersion = tls.VersionTLS12
	}
	at := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	if c.CA != "" {
		pem, err := os.ReadFile(at(c.CA))
		if err != nil {
			return nil, edgeagent.WithHint(fmt.Errorf("read certificate authorities: %w", err), "check destinations[].links[].tls.ca")
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, edgeagent.WithHint(fmt.Errorf("no certificate in %s", at(c.CA)), "write the authority's certificate there, in PEM")
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(at(c.Cert), at(c.Key))
		if err != nil {
			return nil, edgeagent.WithHint(fmt.Errorf("read the client's certificate: %w", err), "check destinations[].links[].tls.cert and key")
		}
		out.Certificates = []tls.Certificate{pair}
	}
	if len(c.Pins) > 0 {
		out.VerifyConnection = c.verifyPins
	}
	return out, nil
}

// verifyPins is called after the chain was verified: a pin comes on top of that.
func (c TLSConfig) verifyPins(s tls.ConnectionState) error {
	sum := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
	for _, p := range c.Pins {
		if want, err := pinned(p); err == nil && bytes.Equal(want, sum[:]) {
			return nil
		}
	}
	return &PinError{Got: pinPrefix + base64.StdEncoding.EncodeToString(sum[:])}
}

// PinError is a server whose public key is none of those that were pinned.
type PinError struct{ Got string }

func (e *PinError) Error() string { return "the server's public key " + e.Got + " is not pinned" }

// Hint says what to do.
func (e *PinError) Hint() string {
	return "if the server's key was changed on purpose, add it to destinations[].links[].tls.pins"
}

// ProxyConfig is a way around a firewall.
type ProxyConfig struct {
	URL      string           `yaml:"url"` // http://host:port (CONNECT) or socks5://host:port
	Username string           `yaml:"username"`
	Password edgeagent.Secret `yaml:"password"` // file:… or env:…
}

// Validate checks the proxy.
func (c ProxyConfig) Validate() error {
	if c.URL == "" {
		if c.Username != "" || !c.Password.IsZero() {
			return edgeagent.Field("url", "missing key url")
		}
		return nil
	}
	u, err := url.Parse(c.URL)
	const hint = "write it like http://proxy:3128 or socks5://proxy:1080"
	switch {
	case err != nil:
		return hinted("url", errors.New("not a URL"), hint)
	case u.Scheme != "http" && u.Scheme != "socks5":
		return hinted("url", fmt.Errorf("unknown scheme %q, want http or socks5", u.Scheme), hint)
	case u.Hostname() == "":
		return hinted("url", errors.New("the host is missing"), hint)
	case u.User != nil:
		return hinted("url", errors.New("holds a login"), "use username and password beside url")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return hinted("url", errors.New("holds more than host and port"), hint)
	case c.Username == "" && !c.Password.IsZero():
		return edgeagent.Field("password", "a password needs a username beside it")
	}
	return nil
}

// Address returns scheme, host and port of the proxy.
func (c ProxyConfig) Address() (scheme, addr string) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "3128", "socks5": "1080"}[u.Scheme]
	}
	return u.Scheme, net.JoinHostPort(u.Hostname(), port)
}

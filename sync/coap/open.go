package coap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// ListenConfig is an address to serve, as a configuration says it.
type ListenConfig struct {
	URL string // coap://host:port, coaps://, coap+tcp://, coaps+tcp://; without a host on all addresses
	// Keys returns the pre-shared key of an identity, nil if there is none; for coaps.
	Keys func(identity string) []byte
	// Cert and Key are PEM files of the server's certificate and its private key, for
	// coaps and coaps+tcp; ClientCA is one of the authorities of clients, which need
	// certificates then.
	Cert, Key, ClientCA string
}

const listenHint = "write it like coap://:5683, coaps://:5684, coap+tcp://:5683 or coaps+tcp://:5684"

// Listen opens the socket of an address.
func Listen(ctx context.Context, cfg ListenConfig) (Listener, error) {
	scheme, addr, err := listenAddress(cfg.URL)
	if err != nil {
		return Listener{}, err
	}
	certs, pool, err := cfg.certificates()
	if err != nil {
		return Listener{}, err
	}
	secure := scheme == "coaps" || scheme == "coaps+tcp"
	switch {
	case !secure && (cfg.Keys != nil || len(certs) > 0 || pool != nil):
		return Listener{}, edgeagent.WithHint(fmt.Errorf("%s is not secured and takes neither keys nor certificates", cfg.URL), "use coaps:// or coaps+tcp://")
	case scheme == "coaps+tcp" && len(certs) == 0:
		return Listener{}, edgeagent.WithHint(fmt.Errorf("%s needs a certificate and its key", cfg.URL), "pre-shared keys are for coaps:// alone")
	case scheme == "coaps" && cfg.Keys == nil && len(certs) == 0:
		return Listener{}, edgeagent.WithHint(fmt.Errorf("%s needs pre-shared keys or a certificate", cfg.URL), "or use coap:// in a network that you trust")
	}
	var lc net.ListenConfig
	if stream(scheme) {
		ln, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return Listener{}, fmt.Errorf("listen at %s: %w", cfg.URL, err)
		}
		if !secure {
			return ServeTCP(ln, nil), nil
		}
		conf := &tls.Config{Certificates: certs, MinVersion: tls.VersionTLS12, NextProtos: []string{"coap"}}
		if pool != nil {
			conf.ClientCAs, conf.ClientAuth = pool, tls.RequireAndVerifyClientCert
		}
		return ServeTCP(ln, conf), nil
	}
	pc, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return Listener{}, fmt.Errorf("listen at %s: %w", cfg.URL, err)
	}
	if !secure {
		return ServeUDP(pc), nil
	}
	return ServeDTLS(pc, DTLSConfig{PSK: cfg.Keys, Certificates: certs, ClientCAs: pool})
}

// listenAddress takes a URL apart.
func listenAddress(s string) (scheme, addr string, err error) {
	u, err := url.Parse(s)
	port := ""
	if err == nil {
		port = defaultPort(u.Scheme)
	}
	if port == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", edgeagent.WithHint(fmt.Errorf("bad address %q", s), listenHint)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return u.Scheme, net.JoinHostPort(u.Hostname(), port), nil
}

// certificates reads the files.
func (c ListenConfig) certificates() (certs []tls.Certificate, pool *x509.CertPool, err error) {
	if c.Cert != "" || c.Key != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("read the certificate: %w", err)
		}
		certs = append(certs, pair)
	}
	if c.ClientCA == "" {
		return certs, nil, nil
	}
	pem, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, nil, fmt.Errorf("read the clients' authorities: %w", err)
	}
	pool = x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, errors.New("no certificate in " + c.ClientCA)
	}
	return certs, pool, nil
}

// Scheme reports whether a URL is one of CoAP.
func Scheme(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && defaultPort(scheme) != ""
}

package web

import (
	"errors"
	"net"
	"net/netip"
	"strconv"

	"github.com/edgeagent/edgeagent"
)

// Config is where a hub lets itself be looked at.
type Config struct {
	// Listen is host:port; "off" for none. Another address than loopback needs TLS,
	// and Token or TLS.ClientCA.
	Listen string `yaml:"listen"`
	// Socket is the path of the unix socket.
	Socket string `yaml:"socket"`
	// Token is what clients show: as a bearer token, or as the password of any user.
	Token edgeagent.Secret `yaml:"token"`
	TLS   TLS              `yaml:"tls"`
}

// TLS names PEM files. They are read once, at the start.
type TLS struct {
	Cert     string `yaml:"cert"`      // of the server, with its chain
	Key      string `yaml:"key"`       // its private key
	ClientCA string `yaml:"client_ca"` // authorities of clients; with it, every client needs a certificate
}

// IsZero reports whether nothing is configured.
func (t TLS) IsZero() bool { return t == TLS{} }

// Validate says what does not belong together.
func (t TLS) Validate() error {
	var errs []error
	if (t.Cert == "") != (t.Key == "") {
		errs = append(errs, edgeagent.Field("cert", "cert and key belong together"))
	}
	if t.ClientCA != "" && t.Cert == "" {
		errs = append(errs, edgeagent.Field("client_ca", "client_ca needs cert and key"))
	}
	return errors.Join(errs...)
}

// Off as [Config.Listen] opens the socket only.
const Off = "off"

// maxSocketPath is what fits a sockaddr_un everywhere.
const maxSocketPath = 103

// Validate refuses what would show the hub to everybody.
func (c Config) Validate() error {
	var errs []error
	if len(c.Socket) > maxSocketPath {
		errs = append(errs, edgeagent.Field("socket", "path of %d bytes is too long for a unix socket, at most %d", len(c.Socket), maxSocketPath))
	}
	errs = append(errs, edgeagent.InField("tls", c.TLS.Validate()))
	if c.Listen != "" && c.Listen != Off {
		errs = append(errs, edgeagent.InField("listen", c.checkListen()))
	}
	return errors.Join(errs...)
}

func (c Config) checkListen() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return edgeagent.WithHint(errors.New("bad address: "+c.Listen), `write "http.listen" like 127.0.0.1:8399 or :8399`)
	}
	switch {
	case isLoopback(host):
		return nil
	case c.TLS.Cert == "":
		return edgeagent.WithHint(errors.New("another address than loopback needs TLS: "+c.Listen),
			`set "http.tls.cert" and "http.tls.key", or listen on 127.0.0.1 and use ssh -L`)
	case c.TLS.ClientCA == "" && c.Token.IsZero():
		return edgeagent.WithHint(errors.New("another address than loopback needs a token or client certificates: "+c.Listen),
			`set "http.token" to env:NAME or file:/path, or "http.tls.client_ca"`)
	}
	return nil
}

// isLoopback reports whether host is "localhost" or a literal loopback address. A name
// that has to be looked up could point anywhere tomorrow.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

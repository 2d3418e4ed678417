package api

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/edgeagent/edgeagent"
)

// Config is the local API's part of the configuration.
type Config struct {
	// Socket is the path of the unix socket; default: see [ServerSocket].
	Socket string `yaml:"socket"`
	// Listen is an optional loopback address such as "127.0.0.1:8390"; off by
	// default.
	Listen string `yaml:"listen"`
}

// Default returns the configuration of an agent that says nothing about its API:
// a socket in the usual place, no listener.
func Default() Config { return Config{} }

// Validate refuses socket paths that no system can bind and listeners that other
// machines could reach.
func (c Config) Validate() error {
	if err := checkSocketPath(c.Socket); err != nil {
		return edgeagent.InField("socket", err)
	}
	if err := checkLoopback(c.Listen); err != nil {
		return edgeagent.InField("listen", err)
	}
	return nil
}

// maxSocketPath is what fits a sockaddr_un: 108 bytes on Linux, 104 on the BSDs
// and darwin, the closing zero included.
const maxSocketPath = 103

func checkSocketPath(path string) error {
	if len(path) <= maxSocketPath {
		return nil
	}
	return edgeagent.WithHint(
		&pathError{path},
		`set "api.socket" to a shorter path, such as /run/edgeagent/agent.sock`)
}

type pathError struct{ path string }

func (e *pathError) Error() string {
	return "path of " + strconv.Itoa(len(e.path)) + " bytes is too long for a unix socket (at most " +
		strconv.Itoa(maxSocketPath) + "): " + e.path
}

// checkLoopback accepts literal loopback addresses and "localhost", and nothing
// for no listener. A name that has to be looked up could point anywhere tomorrow.
func checkLoopback(listen string) error {
	if listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return edgeagent.WithHint(err, `write "api.listen" like 127.0.0.1:8390`)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return edgeagent.WithHint(&listenError{listen, "bad port"}, `write "api.listen" like 127.0.0.1:8390`)
	}
	if !isLoopback(host) {
		return edgeagent.WithHint(&listenError{listen, "not a loopback address"},
			`the API has no login in this release: set "api.listen" to 127.0.0.1:8390 and reach it through ssh -L, or use the socket`)
	}
	return nil
}

type listenError struct{ listen, why string }

func (e *listenError) Error() string { return e.why + ": " + e.listen }

// isLoopback reports whether host is "localhost" or a literal loopback address.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

package push

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{{
		Name:    "push",
		Summary: "readings that programs hand in over HTTP, in line protocol or JSON",
		New:     func() sensors.DriverConfig { return Default() },
	}}
}

const (
	maxMaxSeries = 5_000
	maxMaxRate   = 1_000_000
)

// Config is the configuration of the driver push.
type Config struct {
	// Listen is "127.0.0.1:8391" or "unix:/run/edgeagent/push.sock".
	Listen string `yaml:"listen"`
	// Token has to come with each request, as "Authorization: Bearer TOKEN". It is
	// required on addresses other than loopback.
	Token     edgeagent.Secret `yaml:"token"`
	MaxSeries int              `yaml:"max_series"`
	// MaxRate bounds the readings taken in a second, of all programs together.
	MaxRate int `yaml:"max_rate"`
	// Units are the units of metrics.
	Units map[string]string `yaml:"units"`
}

// Default returns the configuration with its defaults set.
func Default() *Config {
	return &Config{Listen: "127.0.0.1:8391", MaxSeries: 1000, MaxRate: 10_000}
}

// Validate checks the keys.
func (c *Config) Validate() error {
	var errs []error
	if err := c.validateListen(); err != nil {
		errs = append(errs, edgeagent.Field("listen", "%w", err))
	}
	if c.MaxSeries < 1 || c.MaxSeries > maxMaxSeries {
		errs = append(errs, edgeagent.Field("max_series", "%d is out of range, want 1 to %d", c.MaxSeries, maxMaxSeries))
	}
	if c.MaxRate < 1 || c.MaxRate > maxMaxRate {
		errs = append(errs, edgeagent.Field("max_rate", "%d is out of range, want 1 to %d", c.MaxRate, maxMaxRate))
	}
	return errors.Join(errs...)
}

func (c *Config) validateListen() error {
	if path, ok := strings.CutPrefix(c.Listen, "unix:"); ok {
		switch {
		case path == "":
			return errors.New("unix: is not followed by a path")
		case len(path) > 103:
			return fmt.Errorf("%q is longer than 103 bytes, which a socket's path may not be", path)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "" {
		return edgeagent.WithHint(fmt.Errorf("%q is no address", c.Listen), `write "127.0.0.1:8391", or "unix:/run/edgeagent/push.sock"`)
	}
	if !isLoopback(host) && c.Token.IsZero() {
		return edgeagent.WithHint(fmt.Errorf("%q can be reached from elsewhere, and there is no token", c.Listen),
			`write "token: file:/etc/edgeagent/push.token", or listen on 127.0.0.1`)
	}
	return nil
}

// isLoopback reports whether a host is this machine alone.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Pace implements sensors.SelfPaced: programs push when they like.
func (c *Config) Pace() (time.Duration, bool) { return 0, true }

// Open begins to listen.
func (c *Config) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	network, address := "tcp", c.Listen
	if path, ok := strings.CutPrefix(c.Listen, "unix:"); ok {
		network, address = "unix", path
		if !filepath.IsAbs(path) {
			address = filepath.Join(env.Dir, path)
		}
		if err := removeSocket(address); err != nil {
			return nil, err
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("listen for pushed readings: %w", err), "see that nobody else listens there, and set the key listen")
	}
	if network == "unix" { // the agent's group may push
		if err := os.Chmod(address, 0o660); err != nil {
			return nil, errors.Join(fmt.Errorf("listen for pushed readings: %w", err), l.Close())
		}
	}
	s := newSource(env, c)
	s.serve(l)
	return s, nil
}

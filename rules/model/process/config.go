package process

import (
	"path/filepath"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Config describes a model process.
type Config struct {
	// Socket is the absolute path of the Unix socket at which the model listens, at
	// most 100 bytes.
	Socket string `yaml:"socket"`
	// Command starts the model: an absolute path and arguments, no shell. Empty:
	// somebody else starts it.
	Command []string `yaml:"command"`
	// Features is how many numbers the rules hand over, 1 to 1,024.
	Features int `yaml:"features"`
	// Timeout is how long an answer may take: 10 ms to 1 min, default 1 s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxAge is how long a score counts: at least Timeout, at most 1 h, default
	// 1 min.
	MaxAge time.Duration `yaml:"max_age"`
}

// Bounds of a Config.
const (
	minTimeout = 10 * time.Millisecond
	maxTimeout = time.Minute
	maxMaxAge  = time.Hour
	// maxFeatures is that of package rules/model.
	maxFeatures = 1024
	// maxSocket keeps below what sockaddr_un holds: 108 bytes on Linux, 104 elsewhere.
	maxSocket = 100
)

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.MaxAge == 0 {
		c.MaxAge = time.Minute
	}
	return c
}

// Validate returns the first mistake, an [edgeagent.FieldError].
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case !filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocket:
		return edgeagent.Field("socket", "want an absolute path of at most %d bytes, got %q", maxSocket, c.Socket)
	case len(c.Command) > 0 && !filepath.IsAbs(c.Command[0]):
		return edgeagent.Field("command[0]", "want an absolute path, got %q", c.Command[0])
	case c.Features < 1 || c.Features > maxFeatures:
		return edgeagent.Field("features", "want 1 to %d, got %d", maxFeatures, c.Features)
	case c.Timeout < minTimeout || c.Timeout > maxTimeout:
		return edgeagent.Field("timeout", "want %v to %v, got %v", minTimeout, maxTimeout, c.Timeout)
	case c.MaxAge < c.Timeout || c.MaxAge > maxMaxAge:
		return edgeagent.Field("max_age", "want timeout (%v) to %v, got %v", c.Timeout, maxMaxAge, c.MaxAge)
	}
	return nil
}

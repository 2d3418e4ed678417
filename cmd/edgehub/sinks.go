package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/files"
	"github.com/edgeagent/edgeagent/hub/sinks/kafka"
	"github.com/edgeagent/edgeagent/hub/sinks/line"
	"github.com/edgeagent/edgeagent/hub/sinks/nats"
	"github.com/edgeagent/edgeagent/hub/sinks/postgres"
	"github.com/edgeagent/edgeagent/hub/sinks/sqlite"
)

// opened is a sink and what of it a hub needs: a store that keeps the records too, or
// a sink beside a store that keeps the ranges.
type opened struct {
	store  hub.Store
	sink   hub.Sink
	reader hub.Reader // nil: nobody can ask it
	close  func() error
}

// sinkKind is a place for records.
type sinkKind struct {
	// guarantee is what stands in docs/reference/edgehub.md, and nothing stronger.
	guarantee string
	// shared: several workers may use it.
	shared bool
	// needs are the keys without which it cannot be.
	needs []string
	open  func(ctx context.Context, c *config, state string, log *slog.Logger) (opened, error)
}

// sinks lists every sink there is.
func sinks() map[string]sinkKind {
	return map[string]sinkKind{
		"files":    {guarantee: "exactly once", needs: []string{"url"}, open: openFiles},
		"kafka":    {guarantee: "at least once, with its identity in headers", needs: []string{"url", "topic"}, open: openKafka},
		"line":     {guarantee: "idempotent: what comes again overwrites itself", needs: []string{"url"}, open: openLine},
		"nats":     {guarantee: "exactly once while the stream's duplicate window (at least 1 h) covers the outage", needs: []string{"url", "stream"}, open: openNATS},
		"postgres": {guarantee: "exactly once", shared: true, needs: []string{"url"}, open: openPostgres},
		"sqlite":   {guarantee: "exactly once", open: openSQLite},
	}
}

func (s sinkConfig) validate() error {
	kind, ok := sinks()[s.Type]
	if !ok {
		return edgeagent.Field("type", "unknown sink %q, want one of %s", s.Type, strings.Join(sinkNames(), ", "))
	}
	if s.Type == "files" && s.Format != "" {
		if _, err := files.ParseFormat(s.Format); err != nil {
			return edgeagent.InField("format", err)
		}
	}
	for _, key := range kind.needs {
		if s.value(key) == "" {
			return edgeagent.Field(key, "sink %s needs it", s.Type)
		}
	}
	return nil
}

func (s sinkConfig) value(key string) string {
	return map[string]string{"url": s.URL, "topic": s.Topic, "stream": s.Stream}[key]
}

func sinkNames() []string { return slices.Sorted(maps.Keys(sinks())) }

// parseSink reads a sink as it stands behind --sink: TYPE or TYPE:URL.
func parseSink(text string, into *sinkConfig) error {
	name, address, _ := strings.Cut(text, ":")
	if _, ok := sinks()[name]; !ok {
		return fmt.Errorf("unknown sink %q, want one of %s, and a colon and its address where it needs one", name, strings.Join(sinkNames(), ", "))
	}
	if name != into.Type || address != "" {
		*into = sinkConfig{Type: name, URL: address}
	}
	return nil
}

func openSQLite(ctx context.Context, c *config, state string, _ *slog.Logger) (opened, error) {
	path := c.file(c.Sink.URL)
	if path == "" {
		path = filepath.Join(state, "hub.db")
	}
	s, err := sqlite.Open(ctx, path)
	if err != nil {
		return opened{}, err
	}
	return opened{store: s, reader: s, close: s.Close}, nil
}

func openPostgres(ctx context.Context, c *config, _ string, _ *slog.Logger) (opened, error) {
	address, err := c.Sink.login()
	if err != nil {
		return opened{}, err
	}
	s, err := postgres.Open(ctx, address, postgres.Options{})
	if err != nil {
		return opened{}, err
	}
	return opened{store: s, reader: s, close: s.Close}, nil
}

// login returns the address with user and password in it.
func (s sinkConfig) login() (string, error) {
	if s.Password.IsZero() {
		return s.URL, nil
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" {
		return "", edgeagent.WithHint(errors.New("a password needs an address of the form scheme://host"), `write "sink.url" like postgres://edgehub@db.example/edgehub`)
	}
	user := s.Username
	if user == "" {
		user = u.User.Username()
	}
	u.User = url.UserPassword(user, s.Password.Reveal())
	return u.String(), nil
}

// beside returns a sink that cannot hold the hub's memory, with a store that does.
func beside(ctx context.Context, state string, sink hub.Sink, end func() error) (opened, error) {
	store, err := sqlite.Open(ctx, filepath.Join(state, "state.db"))
	if err != nil {
		return opened{}, errors.Join(err, end())
	}
	return opened{store: store, sink: sink, close: func() error { return errors.Join(end(), store.Close()) }}, nil
}

func openFiles(ctx context.Context, c *config, state string, _ *slog.Logger) (opened, error) {
	format := files.Blocks
	if c.Sink.Format != "" {
		format = files.Format(c.Sink.Format)
	}
	s, err := files.New(c.file(c.Sink.URL), format)
	if err != nil {
		return opened{}, err
	}
	return beside(ctx, state, s, func() error { return nil })
}

func openLine(ctx context.Context, c *config, state string, log *slog.Logger) (opened, error) {
	refused := &tray{path: filepath.Join(state, "refused.line")}
	s, err := line.New(line.Options{
		URL: c.Sink.URL, Token: c.Sink.Token.Reveal(), User: c.Sink.Username, Password: c.Sink.Password.Reveal(), Refused: refused, Logger: log,
	})
	if err != nil {
		return opened{}, err
	}
	return beside(ctx, state, s, func() error { return nil })
}

// tray keeps lines that a server does not want: 16 MiB of them, then the file is set
// aside in the place of the one before.
type tray struct{ path string }

const maxTray = 16 << 20

func (t *tray) Write(b []byte) (int, error) {
	if info, err := os.Stat(t.path); err == nil && info.Size() > maxTray {
		if err := os.Rename(t.path, t.path+".old"); err != nil {
			return 0, err
		}
	}
	f, err := os.OpenFile(t.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := f.Write(b)
	return n, errors.Join(err, f.Close())
}

func openKafka(ctx context.Context, c *config, state string, _ *slog.Logger) (opened, error) {
	brokers, secure := strings.CutPrefix(c.Sink.URL, "kafkas://")
	o := kafka.Options{
		Brokers: strings.Split(strings.TrimPrefix(brokers, "kafka://"), ","), Topic: c.Sink.Topic,
		User: c.Sink.Username, Password: c.Sink.Password.Reveal(),
	}
	if secure {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	s, err := kafka.New(o)
	if err != nil {
		return opened{}, err
	}
	return beside(ctx, state, s, s.Close)
}

func openNATS(ctx context.Context, c *config, state string, _ *slog.Logger) (opened, error) {
	s, err := nats.Open(ctx, nats.Options{
		URL: c.Sink.URL, User: c.Sink.Username, Password: c.Sink.Password.Reveal(), Stream: c.Sink.Stream,
	})
	if err != nil {
		return opened{}, err
	}
	return beside(ctx, state, s, s.Close)
}

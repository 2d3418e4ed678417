package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
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
		"postgres": {guarantee: "exactly once", shared: true, needs: []string{"url"}, open: openPostgres},
		"sqlite":   {guarantee: "exactly once", open: openSQLite},
	}
}

func (s sinkConfig) validate() error {
	kind, ok := sinks()[s.Type]
	if !ok {
		return edgeagent.Field("type", "unknown sink %q, want one of %s", s.Type, strings.Join(sinkNames(), ", "))
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

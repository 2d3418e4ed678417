//go:build system && linux

package postgres

import (
	"context"
	"testing"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/postgres/pgtest"
	"github.com/edgeagent/edgeagent/hub/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	server := pgtest.Start(t)
	sinktest.Run(t, config(server))
}

func config(server *pgtest.Server) sinktest.Config {
	return sinktest.Config{
		Shared:  true,
		Disturb: func() { server.Kill(); server.Restart() },
		Open: func(ctx context.Context) (sinktest.Opened, error) {
			s, err := Open(ctx, server.URL(), Options{})
			if err != nil {
				return sinktest.Opened{}, err
			}
			return sinktest.Opened{Store: s, Close: s.Close}, nil
		},
		Read: func(ctx context.Context) ([]hub.Stored, error) {
			s, err := Open(ctx, server.URL(), Options{})
			if err != nil {
				return nil, err
			}
			defer s.Close()
			return everything(ctx, s)
		},
		Clear: func(ctx context.Context) error {
			s, err := Open(ctx, server.URL(), Options{})
			if err != nil {
				return err
			}
			defer s.Close()
			_, err = s.pool.Exec(ctx, "DROP SCHEMA edgehub CASCADE")
			return err
		},
	}
}

func everything(ctx context.Context, s *Store) (out []hub.Stored, err error) {
	for _, stream := range edgeagent.Streams() {
		for x, err := range s.Read(ctx, hub.Query{Stream: stream}) {
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
	}
	return out, nil
}

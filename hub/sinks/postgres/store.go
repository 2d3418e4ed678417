package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

// Options configure a [Store].
type Options struct {
	// Schema holds the tables; it is made if it is not there. Default "edgehub".
	Schema string
	// Connections at most; default 4. One of them writes.
	Connections int
	// NoHypertable leaves readings a plain table although TimescaleDB is there.
	NoHypertable bool
}

// Store is a schema of a database. Create one with [Open]. It is safe for concurrent use.
type Store struct {
	opts Options
	pool *pgxpool.Pool

	mu   sync.Mutex // guards what follows; held during a commit
	ids  map[hub.EpochID]int32
	buf  []byte // scratch
	perm []int32
}

var (
	_ hub.Store  = (*Store)(nil)
	_ hub.Reader = (*Store)(nil)
)

// Open connects to the database at url, "postgres://user@host/name" or "host=… dbname=…",
// and makes the tables if they are not there.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	if o.Schema == "" {
		o.Schema = "edgehub"
	}
	if o.Connections <= 0 {
		o.Connections = 4
	}
	s := &Store{opts: o, ids: map[hub.EpochID]int32{}}
	if err := s.connect(ctx, url); err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("open database: %w", err), "name a PostgreSQL with --sink postgres://USER@HOST/NAME")
	}
	return s, nil
}

func (s *Store) connect(ctx context.Context, url string) error {
	if url == "" {
		return errNoURL
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	cfg.MaxConns = int32(min(s.opts.Connections, 1000))
	params := cfg.ConnConfig.RuntimeParams
	params["search_path"] = pgx.Identifier{s.opts.Schema}.Sanitize()
	for name, value := range map[string]string{
		"application_name": "edgehub",
		// A worker that freezes in the middle of a commit must not hold the others up for
		// ever, nor be one of those that wait.
		"idle_in_transaction_session_timeout": "60s",
		"lock_timeout":                        "30s",
	} {
		if params[name] == "" {
			params[name] = value
		}
	}
	// What is acknowledged must outlive a crash of the server.
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
		return err
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		s.pool.Close()
		return err
	}
	return nil
}

// Close ends all connections. What was committed stays.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

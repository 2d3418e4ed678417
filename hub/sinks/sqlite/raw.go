package sqlite

import (
	"context"
	"fmt"

	"github.com/edgeagent/edgeagent/hub"
)

// RawTable makes a table to compare with, of which nothing but this and the other Raw
// methods know: see package speedtest.
func (s *Store) RawTable(ctx context.Context) error {
	if err := s.RawDrop(ctx); err != nil {
		return err
	}
	return s.raw(ctx, `CREATE TABLE raw_readings (
		device INTEGER NOT NULL, series INTEGER NOT NULL, time INTEGER NOT NULL, value REAL, quality INTEGER NOT NULL,
		PRIMARY KEY (device, series, time)) WITHOUT ROWID`)
}

// RawDrop removes the table.
func (s *Store) RawDrop(ctx context.Context) error {
	return s.raw(ctx, `DROP TABLE IF EXISTS raw_readings`)
}

func (s *Store) raw(ctx context.Context, query string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.ExecContext(ctx, query)
	return err
}

// RawInsert stores rows in one transaction, in order of the table's key.
func (s *Store) RawInsert(ctx context.Context, device int32, rows []hub.Row) error {
	err := s.transact(ctx, func(t *transaction) error {
		s.perm = hub.BySeries(s.perm[:0], rows)
		order := s.perm
		return t.insert(`raw_readings (device, series, time, value, quality)`, 5, len(rows), func(args []any, i int) []any {
			r := &rows[order[i]]
			return append(args, int64(device), int64(r.ID), r.Time, r.Value, int64(r.Quality))
		})
	})
	if err != nil {
		return fmt.Errorf("raw insert: %w", err)
	}
	return nil
}

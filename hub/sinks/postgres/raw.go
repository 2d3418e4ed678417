package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/edgeagent/edgeagent/hub"
)

// RawTable makes a table to compare with, of which nothing but this and the other Raw
// methods know: see package speedtest.
func (s *Store) RawTable(ctx context.Context) error {
	if err := s.RawDrop(ctx); err != nil {
		return err
	}
	for _, q := range []string{
		`CREATE TABLE raw_readings (
			time bigint NOT NULL, value double precision NOT NULL, device integer NOT NULL, series integer NOT NULL, quality smallint NOT NULL)`,
		`CREATE INDEX raw_readings_series ON raw_readings (device, series, time)`,
	} {
		if _, err := s.pool.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// RawDrop removes the table.
func (s *Store) RawDrop(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `DROP TABLE IF EXISTS raw_readings`)
	return err
}

// RawInsert stores rows in one transaction, by COPY.
func (s *Store) RawInsert(ctx context.Context, device int32, rows []hub.Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buf[:0]
	b = append(b, copyHeader...)
	s.perm = hub.BySeries(s.perm[:0], rows)
	for _, i := range s.perm {
		r := &rows[i]
		b = binary.BigEndian.AppendUint16(b, 5)
		b = field8(b, uint64(r.Time))
		b = field8(b, math.Float64bits(r.Value))
		b = field4(b, uint32(device))
		b = field4(b, r.ID)
		b = field2(b, uint16(r.Quality))
	}
	s.buf = binary.BigEndian.AppendUint16(b, math.MaxUint16)
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		t := &transaction{s: s, ctx: ctx, tx: tx}
		return t.copy(`COPY raw_readings (time, value, device, series, quality) FROM STDIN (FORMAT binary)`)
	})
	if err != nil {
		return fmt.Errorf("raw insert: %w", err)
	}
	return nil
}

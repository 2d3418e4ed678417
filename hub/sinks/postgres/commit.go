package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgeagent/edgeagent/hub"
)

// Commit implements [hub.Store]: one transaction. The rows of the streams that change are
// locked by it, so of two workers that planned on the same state one is stale. An error
// may mean that the answer was lost: then the same changes are stale the next time.
func (s *Store) Commit(ctx context.Context, changes []hub.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &transaction{s: s, ctx: ctx, ids: map[hub.EpochID]int32{}}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		t.tx = tx
		for _, c := range changes {
			if err := t.change(c); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, hub.ErrStale) {
		clear(s.ids) // the database may have been put back to an older state
	}
	if err != nil {
		return classify(err)
	}
	maps.Copy(s.ids, t.ids)
	return nil
}

// classify tells what will never work: by the classes of SQLSTATE, data that a column
// cannot hold (22), a constraint (23) and a limit of the server (54).
func classify(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 && slices.Contains([]string{"22", "23", "54"}, pg.Code[:2]) {
		return fmt.Errorf("%w: %w", hub.ErrRefused, err)
	}
	return err
}

// transaction is one Commit.
type transaction struct {
	s   *Store
	ctx context.Context //nolint:containedctx // of one call
	tx  pgx.Tx
	ids map[hub.EpochID]int32 // rows of epochs that it has made
}

func (t *transaction) exec(query string, args ...any) (changed int64, err error) {
	tag, err := t.tx.Exec(t.ctx, query, args...)
	return tag.RowsAffected(), err
}

func (t *transaction) change(c hub.Change) error {
	if err := t.quarantine(c); err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	if c.Epoch == 0 {
		return nil
	}
	epoch, err := t.epoch(c)
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	if err := t.clock(epoch, c); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	for _, x := range c.Streams {
		if err := t.stream(epoch, x); err != nil {
			return fmt.Errorf("stream %s: %w", x.Stream, err)
		}
	}
	for _, x := range c.Series {
		if err := t.name(epoch, x); err != nil {
			return fmt.Errorf("series: %w", err)
		}
	}
	if err := t.pending(epoch, c); err != nil {
		return fmt.Errorf("pending: %w", err)
	}
	if c.Cut == nil {
		return nil
	}
	if err := t.cut(epoch, c.Cut); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	return nil
}

// epoch returns the row of the change's epoch, making it if need be.
func (t *transaction) epoch(c hub.Change) (int32, error) {
	id, ok := t.s.ids[c.EpochID]
	if !ok {
		id, ok = t.ids[c.EpochID]
	}
	if !ok {
		_, err := t.exec(`INSERT INTO epochs (tenant, device, epoch, first_seen) SELECT $1, $2, $3, $4
			WHERE NOT EXISTS (SELECT FROM epochs WHERE tenant = $1 AND device = $2 AND epoch = $3) ON CONFLICT DO NOTHING`,
			c.Tenant, c.Device, c.Epoch.String(), c.At.UnixNano())
		if err == nil {
			err = t.tx.QueryRow(t.ctx, `SELECT id FROM epochs WHERE tenant = $1 AND device = $2 AND epoch = $3`,
				c.Tenant, c.Device, c.Epoch.String()).Scan(&id)
		}
		if err != nil {
			return 0, err
		}
		t.ids[c.EpochID] = id
	}
	if c.Ended {
		_, err := t.exec(`UPDATE epochs SET ended = true WHERE id = $1`, id)
		return id, err
	}
	return id, nil
}

// clock takes up corrections, and sees to it that no record is stored with an unsynced
// time while another worker stores the correction: those who write such records share a
// lock that whoever corrects must have alone.
func (t *transaction) clock(epoch int32, c hub.Change) error {
	if len(c.Clock) > 0 {
		if _, err := t.exec(`SELECT FROM epochs WHERE id = $1 FOR UPDATE`, epoch); err != nil {
			return err
		}
		for _, x := range c.Clock {
			if err := t.correct(epoch, x); err != nil {
				return err
			}
		}
	}
	if c.Cut == nil || !c.Cut.Unsynced {
		return nil
	}
	if _, err := t.exec(`SELECT FROM epochs WHERE id = $1 FOR SHARE`, epoch); err != nil {
		return err
	}
	n, err := t.exec(`SELECT FROM clock WHERE epoch_id = $1 AND run = $2`, epoch, int64(c.Cut.Run))
	if err == nil && n > 0 {
		err = hub.ErrStale
	}
	return err
}

// correct notes a correction and applies it to the records that were stored without it.
// A reading is stored anew: its time says in which chunk of a hypertable it lies.
func (t *transaction) correct(epoch int32, x hub.Correction) error {
	run := int64(x.Run)
	n, err := t.exec(`INSERT INTO clock (epoch_id, run, add_ns, err_ns) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		epoch, run, int64(x.Add), int64(x.Err))
	if err == nil && n == 0 {
		err = hub.ErrStale
	}
	if err != nil {
		return err
	}
	for _, q := range []string{
		`WITH moved AS (DELETE FROM readings WHERE epoch_id = $1 AND run = $2 RETURNING *)
			INSERT INTO readings (time, seq, value, run, epoch_id, series, quality)
			SELECT time + $3::bigint, seq, value, NULL, epoch_id, series, quality FROM moved ORDER BY series, time`,
		`UPDATE rollups SET time = time + $3::bigint, run = NULL WHERE epoch_id = $1 AND run = $2`,
		`UPDATE events SET time = time + $3::bigint, run = NULL WHERE epoch_id = $1 AND run = $2`,
	} {
		if _, err := t.exec(q, epoch, run, int64(x.Add)); err != nil {
			return err
		}
	}
	return nil
}

// stream replaces the state of a stream if it is the one that the change was made from.
func (t *transaction) stream(epoch int32, x hub.StreamChange) error {
	state, err := json.Marshal(x.State)
	if err != nil {
		return err
	}
	var gaps *string // stay as they are
	if x.Gaps {
		b, err := json.Marshal(x.State.Gaps)
		if err != nil {
			return err
		}
		text := string(b)
		gaps = &text
	}
	var n int64
	if x.State.Version == 0 {
		n, err = t.exec(`INSERT INTO streams (epoch_id, stream, version, state, gaps) VALUES ($1, $2, 1, $3, coalesce($4, '[]')) ON CONFLICT DO NOTHING`,
			epoch, int16(x.Stream), string(state), gaps)
	} else {
		n, err = t.exec(`UPDATE streams SET version = version + 1, state = $1, gaps = coalesce($2, gaps) WHERE epoch_id = $3 AND stream = $4 AND version = $5`,
			string(state), gaps, epoch, int16(x.Stream), int64(x.State.Version))
	}
	if err == nil && n == 0 {
		err = hub.ErrStale
	}
	return err
}

func (t *transaction) name(epoch int32, x hub.SeriesName) error {
	k := x.Key
	n, err := t.exec(`INSERT INTO series (epoch_id, id, sensor, metric, name, unit, kind, resolution, tags, labels)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
		epoch, int32(x.ID), clean(k.Sensor), clean(k.Metric), clean(k.Name()), clean(k.Unit), int16(k.Kind), int16(k.Resolution),
		cleanMap(k.Tags.Map()), cleanMap(k.Labels.Map()))
	if err == nil && n == 0 {
		err = hub.ErrStale
	}
	return err
}

func (t *transaction) pending(epoch int32, c hub.Change) error {
	if c.Done != 0 {
		if _, err := t.exec(`DELETE FROM pending WHERE epoch_id = $1 AND stream = $2`, epoch, int16(c.Done)); err != nil {
			return err
		}
	}
	p := c.Pending
	if p == nil {
		return nil
	}
	ranges, err := json.Marshal(p.Ranges)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO pending (epoch_id, stream, ranges, add_ns, unsynced, received, block) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (epoch_id, stream) DO UPDATE SET ranges = $3, add_ns = $4, unsynced = $5, received = $6, block = $7`,
		epoch, int16(p.Stream), string(ranges), int64(p.Add), p.Unsynced, p.Received.UnixNano(), p.Block)
	return err
}

func (t *transaction) quarantine(c hub.Change) error {
	if len(c.Drop) > 0 {
		ids := make([]int64, len(c.Drop))
		for i, id := range c.Drop {
			ids[i] = int64(id)
		}
		if _, err := t.exec(`DELETE FROM quarantine WHERE id = ANY ($1)`, ids); err != nil {
			return err
		}
	}
	for _, k := range c.Keep {
		blk := k.Block
		if blk == nil {
			blk = []byte{}
		}
		_, err := t.exec(`INSERT INTO quarantine (id, tenant, device, epoch, cause, stream, first, last, run, at, bytes, block)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
			int64(k.ID), k.Tenant, k.Device, k.Epoch.String(), k.Cause.String(), int16(k.Stream), int64(k.Range.From), int64(k.Range.To),
			int64(k.Run), k.At.UnixNano(), k.Bytes, blk)
		if err != nil {
			return err
		}
	}
	return nil
}

// cut stores records.
func (t *transaction) cut(epoch int32, c *hub.Cut) error {
	var run *int64
	if c.Unsynced {
		v := int64(c.Run)
		run = &v
	}
	switch {
	case len(c.Rows) > 0:
		t.s.perm = hub.BySeries(t.s.perm[:0], c.Rows)
		t.s.buf = appendReadings(t.s.buf[:0], epoch, c.Rows, t.s.perm, run)
		return t.copy(copyReadings)
	case len(c.Rollups) > 0:
		t.s.buf = appendRollups(t.s.buf[:0], epoch, c.Rollups, run)
		return t.copy(copyRollups)
	}
	return t.events(epoch, c, run)
}

func (t *transaction) copy(query string) error {
	_, err := t.tx.Conn().PgConn().CopyFrom(t.ctx, bytes.NewReader(t.s.buf), query)
	return err
}

func (t *transaction) events(epoch int32, c *hub.Cut, run *int64) error {
	var b pgx.Batch
	for i := range c.Events {
		e := &c.Events[i]
		b.Queue(`INSERT INTO events (time, seq, n, run, epoch_id, stream, severity, kind, id, series, text, attrs, data)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			e.At.Wall, int64(e.Seq), int64(e.N), run, epoch, int16(c.Stream), int16(e.Severity), clean(e.Kind), clean(e.ID), clean(e.Series),
			clean(e.Text), cleanMap(e.Attrs), e.Data)
	}
	return t.tx.SendBatch(t.ctx, &b).Close()
}

// clean leaves out what a text of PostgreSQL cannot hold: it would refuse the row for
// ever.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func cleanMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[clean(k)] = clean(v)
	}
	return out
}

package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/edgeagent/edgeagent/hub"
)

// perInsert is how many rows one statement takes; the limit of SQLite is 32,766 values.
const perInsert = 128

// Commit implements [hub.Store]: one transaction, in the file and synced when it returns.
func (s *Store) Commit(ctx context.Context, changes []hub.Change) error {
	return s.transact(ctx, func(t *transaction) error { return t.all(changes) })
}

// transact runs f in a transaction and commits it if f works.
func (s *Store) transact(ctx context.Context, f func(t *transaction) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &transaction{s: s, ctx: ctx, ids: map[hub.EpochID]int64{}}
	if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	err := f(t)
	if err == nil {
		if _, err = t.exec("COMMIT"); err != nil {
			err = fmt.Errorf("commit: %w", err)
		}
	}
	if err != nil {
		t.ctx = context.WithoutCancel(ctx)
		_, undo := t.exec("ROLLBACK") // fails where SQLite has rolled back by itself
		_ = undo
		if errors.Is(err, hub.ErrStale) {
			clear(s.ids) // the file may have been put back to an older state
		}
		return classify(err)
	}
	maps.Copy(s.ids, t.ids)
	return nil
}

// classify tells what will never work: a value that is too big, and a constraint.
func classify(err error) error {
	var s *driver.Error
	if errors.As(err, &s) && slices.Contains([]int{sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT}, s.Code()&0xff) {
		return fmt.Errorf("%w: %w", hub.ErrRefused, err)
	}
	return err
}

func (t *transaction) all(changes []hub.Change) error {
	for _, c := range changes {
		if err := t.change(c); err != nil {
			return err
		}
	}
	return nil
}

// transaction is one Commit.
type transaction struct {
	s   *Store
	ctx context.Context       //nolint:containedctx // of one call
	ids map[hub.EpochID]int64 // rows of epochs that it has made
}

// exec runs a statement, prepared once for the life of the store.
func (t *transaction) exec(query string, args ...any) (changed int64, err error) {
	st := t.s.stmt[query]
	if st == nil {
		if st, err = t.s.w.PrepareContext(t.ctx, query); err != nil {
			return 0, err
		}
		t.s.stmt[query] = st
	}
	r, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
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
	for _, x := range c.Clock {
		if err := t.correct(epoch, x); err != nil {
			return fmt.Errorf("clock: %w", err)
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
func (t *transaction) epoch(c hub.Change) (int64, error) {
	id, ok := t.s.ids[c.EpochID]
	if !ok {
		id, ok = t.ids[c.EpochID]
	}
	if !ok {
		_, err := t.exec(`INSERT INTO epochs (tenant, device, epoch, first_seen) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			c.Tenant, c.Device, c.Epoch.String(), c.At.UnixNano())
		if err == nil {
			err = t.s.w.QueryRowContext(t.ctx, `SELECT id FROM epochs WHERE tenant = ? AND device = ? AND epoch = ?`,
				c.Tenant, c.Device, c.Epoch.String()).Scan(&id)
		}
		if err != nil {
			return 0, err
		}
		t.ids[c.EpochID] = id
	}
	if c.Ended {
		_, err := t.exec(`UPDATE epochs SET ended = 1 WHERE id = ?`, id)
		return id, err
	}
	return id, nil
}

// stream replaces the state of a stream if it is the one that the change was made from.
func (t *transaction) stream(epoch int64, x hub.StreamChange) error {
	state, err := json.Marshal(x.State)
	if err != nil {
		return err
	}
	var gaps any // stay as they are
	if x.Gaps {
		if gaps, err = text(x.State.Gaps); err != nil {
			return err
		}
	}
	var n int64
	if x.State.Version == 0 {
		n, err = t.exec(`INSERT INTO streams (epoch_id, stream, version, state, gaps) VALUES (?, ?, 1, ?, coalesce(?, '[]')) ON CONFLICT DO NOTHING`,
			epoch, x.Stream, string(state), gaps)
	} else {
		n, err = t.exec(`UPDATE streams SET version = version + 1, state = ?, gaps = coalesce(?, gaps) WHERE epoch_id = ? AND stream = ? AND version = ?`,
			string(state), gaps, epoch, x.Stream, int64(x.State.Version))
	}
	if err == nil && n == 0 {
		err = hub.ErrStale
	}
	return err
}

func (t *transaction) name(epoch int64, x hub.SeriesName) error {
	tags, err := text(x.Key.Tags.Map())
	if err != nil {
		return err
	}
	labels, err := text(x.Key.Labels.Map())
	if err != nil {
		return err
	}
	n, err := t.exec(`INSERT INTO series (epoch_id, id, sensor, metric, name, unit, kind, resolution, tags, labels)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		epoch, x.ID, x.Key.Sensor, x.Key.Metric, x.Key.Name(), x.Key.Unit, x.Key.Kind, x.Key.Resolution, tags, labels)
	if err == nil && n == 0 {
		err = hub.ErrStale
	}
	return err
}

// correct notes a correction and applies it to the records that were stored without it.
func (t *transaction) correct(epoch int64, x hub.Correction) error {
	n, err := t.exec(`INSERT INTO clock (epoch_id, run, add_ns, err_ns) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		epoch, x.Run, int64(x.Add), int64(x.Err))
	if err == nil && n == 0 {
		err = hub.ErrStale
	}
	if err != nil {
		return err
	}
	for _, table := range []string{"readings", "rollups", "events"} {
		if _, err := t.exec(`UPDATE `+table+` SET time = time + ?, run = NULL WHERE epoch_id = ? AND run = ?`, int64(x.Add), epoch, x.Run); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) pending(epoch int64, c hub.Change) error {
	if c.Done != 0 {
		if _, err := t.exec(`DELETE FROM pending WHERE epoch_id = ? AND stream = ?`, epoch, c.Done); err != nil {
			return err
		}
	}
	p := c.Pending
	if p == nil {
		return nil
	}
	ranges, err := text(p.Ranges)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT OR REPLACE INTO pending (epoch_id, stream, ranges, add_ns, unsynced, received, block) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		epoch, p.Stream, ranges, int64(p.Add), p.Unsynced, p.Received.UnixNano(), p.Block)
	return err
}

func (t *transaction) quarantine(c hub.Change) error {
	for _, id := range c.Drop {
		if _, err := t.exec(`DELETE FROM quarantine WHERE id = ?`, int64(id)); err != nil {
			return err
		}
	}
	for _, k := range c.Keep {
		blk := k.Block
		if blk == nil {
			blk = []byte{}
		}
		_, err := t.exec(`INSERT INTO quarantine (id, tenant, device, epoch, cause, stream, first, last, run, at, bytes, block) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			int64(k.ID), k.Tenant, k.Device, k.Epoch.String(), k.Cause.String(), k.Stream, int64(k.Range.From), int64(k.Range.To), k.Run, k.At.UnixNano(), k.Bytes, blk)
		if err != nil {
			return err
		}
	}
	return nil
}

// cut stores records. If they are unsynced, whoever has planned the cut must know all
// corrections.
func (t *transaction) cut(epoch int64, c *hub.Cut) error {
	var run any
	if c.Unsynced {
		run = int64(c.Run)
		var known int
		if err := t.s.w.QueryRowContext(t.ctx, `SELECT count(*) FROM clock WHERE epoch_id = ? AND run = ?`, epoch, c.Run).Scan(&known); err != nil {
			return err
		}
		if known > 0 {
			return hub.ErrStale
		}
	}
	switch {
	case len(c.Rows) > 0:
		return t.readings(epoch, c.Rows, run)
	case len(c.Rollups) > 0:
		return t.rollups(epoch, c.Rollups, run)
	}
	return t.events(epoch, c, run)
}

// readings stores rows in the order of the table's key, which is how they are cheapest.
func (t *transaction) readings(epoch int64, rows []hub.Row, run any) error {
	t.s.perm = hub.BySeries(t.s.perm[:0], rows)
	order := t.s.perm
	var eid any = epoch
	into, width := `readings (epoch_id, series, time, seq, value, quality)`, 6
	if run != nil {
		into, width = `readings (epoch_id, series, time, seq, value, quality, run)`, 7
	}
	return t.insert(into, width, len(rows), func(args []any, i int) []any {
		r := &rows[order[i]]
		args = append(args, eid, int64(r.ID), r.Time, int64(r.Seq), r.Value, int64(r.Quality))
		if run != nil {
			args = append(args, run)
		}
		return args
	})
}

func (t *transaction) rollups(epoch int64, rows []hub.Rollup, run any) error {
	const into = `rollups (epoch_id, series, time, seq, bucket_s, count, sum, min, max, first, last, run)`
	return t.insert(into, 12, len(rows), func(args []any, i int) []any {
		r := &rows[i]
		return append(args, epoch, int64(r.ID), r.At.Wall, int64(r.Seq), int64(r.Bucket.Seconds()), int64(min(r.Count, math.MaxInt64)),
			r.Sum, r.Min, r.Max, r.First, r.Last, run)
	})
}

func (t *transaction) events(epoch int64, c *hub.Cut, run any) error {
	for i := range c.Events {
		e := &c.Events[i]
		attrs, err := text(e.Attrs)
		if err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO events (epoch_id, stream, seq, time, kind, severity, id, n, series, text, attrs, data, run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			epoch, c.Stream, int64(e.Seq), e.At.Wall, e.Kind, e.Severity, e.ID, e.N, e.Series, e.Text, attrs, e.Data, run)
		if err != nil {
			return err
		}
	}
	return nil
}

// insert stores n rows of width values each, perInsert at a time.
func (t *transaction) insert(into string, width, n int, row func(args []any, i int) []any) error {
	for i := 0; i < n; {
		count := perInsert
		if n-i < perInsert {
			count = 1
			for 2*count <= n-i {
				count *= 2
			}
		}
		args := t.s.rows[:0]
		for range count {
			args = row(args, i)
			i++
		}
		t.s.rows = args
		if err := t.bulk(into, width, count, args); err != nil {
			return err
		}
	}
	clear(t.s.rows)
	return nil
}

func (t *transaction) bulk(into string, width, count int, args []any) error {
	one := "(" + strings.Repeat("?, ", width-1) + "?)"
	_, err := t.exec("INSERT INTO "+into+" VALUES "+strings.Repeat(one+", ", count-1)+one, args...)
	return err
}

// text is what a column of JSON holds.
func text(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

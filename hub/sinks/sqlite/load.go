package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

// Epochs implements [hub.Store].
func (s *Store) Epochs(ctx context.Context) (out []hub.EpochID, err error) {
	err = each(ctx, s.r, `SELECT tenant, device, epoch FROM epochs ORDER BY id`, nil, func(scan scanFunc) error {
		var id hub.EpochID
		var epoch string
		if err := scan(&id.Tenant, &id.Device, &epoch); err != nil {
			return err
		}
		out = append(out, id)
		return out[len(out)-1].Epoch.UnmarshalText([]byte(epoch))
	})
	return out, wrap("epochs", err)
}

// Load implements [hub.Store].
func (s *Store) Load(ctx context.Context, id hub.EpochID, names bool) (hub.Saved, error) {
	saved := hub.Saved{Streams: map[edgeagent.Stream]hub.StreamState{}}
	var epoch int64
	err := s.r.QueryRowContext(ctx, `SELECT id, ended FROM epochs WHERE tenant = ? AND device = ? AND epoch = ?`,
		id.Tenant, id.Device, id.Epoch.String()).Scan(&epoch, &saved.Ended)
	if errors.Is(err, sql.ErrNoRows) {
		return hub.Saved{}, nil
	}
	if err == nil {
		err = s.loadStreams(ctx, epoch, &saved)
	}
	if err == nil && names {
		err = s.loadNames(ctx, epoch, &saved)
	}
	if err == nil {
		err = s.loadClock(ctx, epoch, &saved)
	}
	if err == nil {
		err = s.loadPending(ctx, epoch, &saved)
	}
	if err == nil {
		saved.Waiting, err = s.kept(ctx, `SELECT id, tenant, device, epoch, cause, stream, first, last, run, at, bytes, block FROM quarantine
			WHERE tenant = ? AND device = ? AND epoch = ? AND cause = 'series' ORDER BY at`, id.Tenant, id.Device, id.Epoch.String())
	}
	return saved, wrap("state of "+id.Device, err)
}

// Kept implements [hub.Store].
func (s *Store) Kept(ctx context.Context) ([]hub.Kept, error) {
	out, err := s.kept(ctx, `SELECT id, tenant, device, epoch, cause, stream, first, last, run, at, bytes, NULL FROM quarantine ORDER BY at`)
	return out, wrap("quarantine", err)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("load %s: %w", what, err)
	}
	return nil
}

func (s *Store) loadStreams(ctx context.Context, epoch int64, saved *hub.Saved) error {
	return each(ctx, s.r, `SELECT stream, version, state, gaps FROM streams WHERE epoch_id = ?`, []any{epoch}, func(scan scanFunc) error {
		var st hub.StreamState
		var stream edgeagent.Stream
		var version int64
		var state, gaps []byte
		if err := scan(&stream, &version, &state, &gaps); err != nil {
			return err
		}
		if err := errors.Join(json.Unmarshal(state, &st), json.Unmarshal(gaps, &st.Gaps)); err != nil {
			return err
		}
		st.Version = uint64(version)
		saved.Streams[stream] = st
		return nil
	})
}

func (s *Store) loadNames(ctx context.Context, epoch int64, saved *hub.Saved) error {
	const q = `SELECT id, sensor, metric, unit, kind, resolution, tags, labels FROM series WHERE epoch_id = ? ORDER BY id`
	return each(ctx, s.r, q, []any{epoch}, func(scan scanFunc) error {
		var x hub.SeriesName
		err := scanKey(&x.Key, func(dst ...any) error { return scan(append([]any{&x.ID}, dst...)...) })
		saved.Series = append(saved.Series, x)
		return err
	})
}

// scanKey reads sensor, metric, unit, kind, resolution, tags and labels.
func scanKey(key *edgeagent.SeriesKey, scan scanFunc) error {
	var tags, labels []byte
	var t, l map[string]string
	if err := scan(&key.Sensor, &key.Metric, &key.Unit, &key.Kind, &key.Resolution, &tags, &labels); err != nil {
		return err
	}
	err := errors.Join(json.Unmarshal(tags, &t), json.Unmarshal(labels, &l))
	key.Tags, key.Labels = edgeagent.MakePairs(t), edgeagent.MakePairs(l)
	return err
}

func (s *Store) loadClock(ctx context.Context, epoch int64, saved *hub.Saved) error {
	return each(ctx, s.r, `SELECT run, add_ns, err_ns FROM clock WHERE epoch_id = ?`, []any{epoch}, func(scan scanFunc) error {
		var c hub.Correction
		err := scan(&c.Run, &c.Add, &c.Err)
		saved.Clock = append(saved.Clock, c)
		return err
	})
}

func (s *Store) loadPending(ctx context.Context, epoch int64, saved *hub.Saved) error {
	const q = `SELECT stream, ranges, add_ns, unsynced, received, block FROM pending WHERE epoch_id = ?`
	return each(ctx, s.r, q, []any{epoch}, func(scan scanFunc) error {
		var p hub.Pending
		var ranges []byte
		var received int64
		if err := scan(&p.Stream, &ranges, &p.Add, &p.Unsynced, &received, &p.Block); err != nil {
			return err
		}
		p.Received = time.Unix(0, received)
		err := json.Unmarshal(ranges, &p.Ranges)
		saved.Pending = append(saved.Pending, p)
		return err
	})
}

func (s *Store) kept(ctx context.Context, query string, args ...any) (out []hub.Kept, err error) {
	err = each(ctx, s.r, query, args, func(scan scanFunc) error {
		var k hub.Kept
		var epoch, cause string
		var id, first, last, at int64
		if err := scan(&id, &k.Tenant, &k.Device, &epoch, &cause, &k.Stream, &first, &last, &k.Run, &at, &k.Bytes, &k.Block); err != nil {
			return err
		}
		k.ID, k.At = uint64(id), time.Unix(0, at)
		k.Range = edgeagent.Range{From: edgeagent.Seq(first), To: edgeagent.Seq(last)}
		err := errors.Join(k.Epoch.UnmarshalText([]byte(epoch)), k.Cause.UnmarshalText([]byte(cause)))
		out = append(out, k)
		return err
	})
	return out, err
}

type scanFunc func(dst ...any) error

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls f for each row of a query.
func each(ctx context.Context, db querier, query string, args []any, f func(scan scanFunc) error) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // says what Err says
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

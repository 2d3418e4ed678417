package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

// Series implements [hub.Reader].
func (s *Store) Series(ctx context.Context, tenant, device string) (out []hub.StoredSeries, err error) {
	var w where
	w.text("e.tenant", tenant)
	w.text("e.device", device)
	q := `SELECT e.tenant, e.device, s.sensor, s.metric, s.unit, s.kind, s.resolution, s.tags, s.labels
		FROM series s JOIN epochs e ON e.id = s.epoch_id` + w.String() + ` GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, s.name ORDER BY e.tenant, e.device, s.name, s.unit, s.tags`
	err = each(ctx, s.pool, q, w.args, func(scan scanFunc) error {
		var x hub.StoredSeries
		err := scanKey(&x.Key, func(dst ...any) error { return scan(append([]any{&x.Tenant, &x.Device}, dst...)...) })
		out = append(out, x)
		return err
	})
	return out, wrap("series", err)
}

// Read implements [hub.Reader].
func (s *Store) Read(ctx context.Context, q hub.Query) iter.Seq2[hub.Stored, error] {
	return func(yield func(hub.Stored, error) bool) {
		if err := s.read(ctx, q, func(x hub.Stored) bool { return yield(x, nil) }); err != nil {
			yield(hub.Stored{}, fmt.Errorf("read %s: %w", streamOf(q), err))
		}
	}
}

func streamOf(q hub.Query) edgeagent.Stream {
	if q.Stream == 0 {
		return edgeagent.StreamTelemetry
	}
	return q.Stream
}

// kind is how the records of a kind of table are read.
type kind struct {
	table, columns string
	scan           func(x *hub.Stored, scan func(dst ...any) error) error
}

func (s *Store) read(ctx context.Context, q hub.Query, yield func(hub.Stored) bool) error {
	var k kind
	switch streamOf(q) {
	case edgeagent.StreamTelemetry:
		k = kind{"readings", "r.series, r.time, r.seq, r.value, r.quality", scanReading}
	case edgeagent.StreamRollup:
		k = kind{"rollups", "r.series, r.time, r.seq, r.bucket_s, r.count, r.sum, r.min, r.max, r.first, r.last", scanRollup}
	default:
		k = kind{"events", "r.time, r.seq, r.kind, r.severity, r.id, r.n, r.series, r.text, r.attrs, r.data", scanEvent}
	}
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it has changed nothing
	known, err := names(ctx, tx, q)
	if err != nil || len(known) == 0 && k.table != "events" {
		return err
	}
	text, args := query(q, k, known)
	err = each(ctx, tx, text, args, func(scan scanFunc) error {
		x := hub.Stored{Stream: streamOf(q)}
		var epoch string
		var epochID int32
		var unsynced bool
		head := []any{&x.Tenant, &x.Device, &epoch, &epochID, &unsynced}
		if err := k.scan(&x, func(dst ...any) error { return scan(append(head, dst...)...) }); err != nil {
			return err
		}
		x.Unsynced = unsynced
		if err := x.Epoch.UnmarshalText([]byte(epoch)); err != nil {
			return err
		}
		named(known, epochID, &x)
		if !yield(x) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("enough")

// mostBranches is how many series are read each by its own index range; more of them are
// read as one, and sorted.
const mostBranches = 64

// query makes the statement: for a few series one branch each, which reads no further
// than the limit.
func query(q hub.Query, k kind, found map[nameKey]edgeagent.Series) (string, []any) {
	order := " ORDER BY time, epoch_id, seq"
	if q.Newest {
		order = " ORDER BY time DESC, epoch_id DESC, seq DESC"
	}
	limit := ""
	if q.Limit > 0 {
		limit = fmt.Sprintf(" LIMIT %d", q.Limit)
	}
	base := `SELECT e.tenant, e.device, e.epoch, r.epoch_id, r.run IS NOT NULL AS unsynced, ` + k.columns +
		` FROM ` + k.table + ` r JOIN epochs e ON e.id = r.epoch_id`
	var w where
	w.time("r.time", q.From, q.To)
	if k.table == "events" {
		w.add("r.stream =", int16(streamOf(q)))
		w.text("r.series", q.Series)
	}
	if k.table == "events" || q.Series == "" {
		w.text("e.tenant", q.Tenant)
		w.text("e.device", q.Device)
		return base + w.String() + order + limit, w.args
	}
	if len(found) > mostBranches {
		w.text("e.tenant", q.Tenant)
		w.text("e.device", q.Device)
		w.text("(SELECT name FROM series s WHERE s.epoch_id = r.epoch_id AND s.id = r.series)", q.Series)
		return base + w.String() + order + limit, w.args
	}
	var parts []string
	var args []any
	for f := range found {
		b := where{before: len(args)}
		b.time("r.time", q.From, q.To)
		b.add("r.epoch_id =", f.epoch)
		b.add("r.series =", f.id)
		parts = append(parts, "SELECT * FROM ("+base+b.String()+order+limit+") p")
		args = append(args, b.args...)
	}
	return "SELECT * FROM (" + strings.Join(parts, " UNION ALL ") + ") q" + order + limit, args
}

type nameKey struct{ epoch, id int32 }

// names returns the series that a query may meet.
func names(ctx context.Context, tx querier, q hub.Query) (map[nameKey]edgeagent.Series, error) {
	var w where
	w.text("s.name", q.Series)
	w.text("e.tenant", q.Tenant)
	w.text("e.device", q.Device)
	out := map[nameKey]edgeagent.Series{}
	err := each(ctx, tx, `SELECT s.epoch_id, s.id, s.sensor, s.metric, s.unit, s.kind, s.resolution, s.tags, s.labels
		FROM series s JOIN epochs e ON e.id = s.epoch_id`+w.String(), w.args, func(scan scanFunc) error {
		var k nameKey
		var key edgeagent.SeriesKey
		err := scanKey(&key, func(dst ...any) error { return scan(append([]any{&k.epoch, &k.id}, dst...)...) })
		out[k] = edgeagent.NewSeries(key)
		return err
	})
	return out, err
}

// named puts in the series of a reading or rollup.
func named(known map[nameKey]edgeagent.Series, epoch int32, x *hub.Stored) {
	switch {
	case x.Rollup != nil:
		x.Rollup.Series = known[nameKey{epoch, int32(x.Rollup.ID)}]
	case x.Event == nil:
		x.Row.Series = known[nameKey{epoch, int32(x.Row.ID)}]
	}
}

func scanReading(x *hub.Stored, scan func(dst ...any) error) error {
	var series int32
	var seq int64
	var quality int16
	r := &x.Row
	err := scan(&series, &r.Time, &seq, &r.Value, &quality)
	r.ID, r.Seq, r.Quality = uint32(series), edgeagent.Seq(seq), edgeagent.Quality(quality)
	return err
}

func scanRollup(x *hub.Stored, scan func(dst ...any) error) error {
	r := &hub.Rollup{}
	x.Rollup = r
	var series, bucket int32
	var seq, count int64
	err := scan(&series, &r.At.Wall, &seq, &bucket, &count, &r.Sum, &r.Min, &r.Max, &r.First, &r.Last)
	r.ID, r.Seq, r.Bucket, r.Count = uint32(series), edgeagent.Seq(seq), time.Duration(bucket)*time.Second, uint64(count)
	return err
}

func scanEvent(x *hub.Stored, scan func(dst ...any) error) error {
	e := &hub.Event{}
	x.Event = e
	var seq, n int64
	var severity int16
	err := scan(&e.At.Wall, &seq, &e.Kind, &severity, &e.ID, &n, &e.Series, &e.Text, &e.Attrs, &e.Data)
	e.Seq, e.Severity, e.N = edgeagent.Seq(seq), edgeagent.Severity(severity), uint32(n)
	return err
}

// where is a condition and its values, which follow those that were before.
type where struct {
	before int
	parts  []string
	args   []any
}

func (w *where) add(part string, arg any) {
	w.args = append(w.args, arg)
	w.parts = append(w.parts, fmt.Sprintf("%s $%d", part, w.before+len(w.args)))
}

func (w *where) text(column, value string) {
	if value != "" {
		w.add(column+" =", value)
	}
}

func (w *where) time(column string, from, to time.Time) {
	if !from.IsZero() {
		w.add(column+" >=", from.UnixNano())
	}
	if !to.IsZero() {
		w.add(column+" <", to.UnixNano())
	}
}

func (w *where) String() string {
	if len(w.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.parts, " AND ")
}

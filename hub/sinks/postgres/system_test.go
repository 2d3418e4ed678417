//go:build system && linux

package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// What PostgreSQL will never take is refused for good, and what is only long is taken.
func TestRefusal(t *testing.T) {
	s, err := Open(t.Context(), pgtest.Start(t).URL(), Options{Schema: `odd "name"`})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Commit(t.Context(), []hub.Change{{EpochID: hub.EpochID{Tenant: "a\x00", Device: "d", Epoch: 1}}})
	if !errors.Is(err, hub.ErrRefused) {
		t.Errorf("a zero byte: %v", err)
	}
	long := edgeagent.SeriesKey{Sensor: strings.Repeat("x", 100_000), Metric: "m\x00", Tags: edgeagent.MakePairs(map[string]string{"k": "v"})}
	id := hub.EpochID{Tenant: "a", Device: "d", Epoch: 1}
	err = s.Commit(t.Context(), []hub.Change{{EpochID: id, Series: []hub.SeriesName{{ID: 1<<32 - 1, Key: long}}}})
	if err != nil {
		t.Error(err)
	}
	saved, err := s.Load(t.Context(), id, true)
	if err != nil || len(saved.Series) != 1 || saved.Series[0].ID != 1<<32-1 || saved.Series[0].Key.Sensor != long.Sensor {
		t.Errorf("%d series, %v", len(saved.Series), err)
	}
}

// Whoever asks for a series gets it from all epochs, in order, and no more than asked.
func TestRead(t *testing.T) {
	s, err := Open(t.Context(), pgtest.Start(t).URL(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(device string, epoch edgeagent.Epoch, rows ...hub.Row) {
		err := s.Commit(t.Context(), []hub.Change{{
			EpochID: hub.EpochID{Tenant: "t", Device: device, Epoch: epoch},
			Series:  []hub.SeriesName{{ID: 1, Key: edgeagent.SeriesKey{Sensor: "s", Metric: "x"}}, {ID: 2, Key: edgeagent.SeriesKey{Sensor: "s", Metric: "y"}}},
			Cut:     &hub.Cut{Tenant: "t", Device: device, Epoch: epoch, Stream: edgeagent.StreamTelemetry, Rows: rows},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	row := func(series uint32, v int64) hub.Row {
		return hub.Row{Seq: edgeagent.Seq(v), ID: series, Time: v * 1e9, Value: float64(v)}
	}
	put("a", 1, row(1, 3), row(2, 2), row(1, 1))
	put("a", 2, row(1, 5))
	put("b", 1, row(1, 4), row(1, 6))
	at := func(i int64) time.Time { return time.Unix(i, 0) }
	for name, c := range map[string]struct {
		q    hub.Query
		want []float64
	}{
		"all":                     {hub.Query{}, []float64{1, 2, 3, 4, 5, 6}},
		"a device":                {hub.Query{Device: "a"}, []float64{1, 2, 3, 5}},
		"a series":                {hub.Query{Device: "a", Series: "s/x"}, []float64{1, 3, 5}},
		"the newest":              {hub.Query{Device: "a", Series: "s/x", Newest: true, Limit: 2}, []float64{5, 3}},
		"a series of all devices": {hub.Query{Series: "s/x", From: at(2), To: at(6)}, []float64{3, 4, 5}},
		"a limit":                 {hub.Query{Limit: 2}, []float64{1, 2}},
		"no such series":          {hub.Query{Series: "s/z"}, nil},
	} {
		var got []float64
		for x, err := range s.Read(t.Context(), c.q) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, x.Row.Value)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	var people, alarms int
	err = s.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM measurements WHERE quality = 'good' AND time < now()), (SELECT count(*) FROM alarms)`).Scan(&people, &alarms)
	if err != nil || people != 6 || alarms != 0 {
		t.Errorf("views: %d, %d, %v", people, alarms, err)
	}
}

// A worker that freezes in the middle of a commit holds the others up for a while only:
// the server ends its transaction, and who waits for its lock gets an error and tries again.
func TestFrozenWorker(t *testing.T) {
	server := pgtest.Start(t)
	id := hub.EpochID{Tenant: "a", Device: "d", Epoch: 1}
	change := hub.Change{EpochID: id, Streams: []hub.StreamChange{{Stream: edgeagent.StreamAlarm}}}
	frozen, err := Open(t.Context(), server.URL()+"&idle_in_transaction_session_timeout=500", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	if err := frozen.Commit(t.Context(), []hub.Change{change}); err != nil {
		t.Fatal(err)
	}
	tx, err := frozen.pool.Begin(t.Context())
	if err == nil {
		defer tx.Rollback(context.Background())
		_, err = tx.Exec(t.Context(), "UPDATE streams SET version = version + 1")
	}
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), server.URL()+"&lock_timeout=50", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	change.Streams[0].State.Version = 1
	waited := 0
	for err = other.Commit(t.Context(), []hub.Change{change}); err != nil; err = other.Commit(t.Context(), []hub.Change{change}) {
		if waited++; errors.Is(err, hub.ErrRefused) || errors.Is(err, hub.ErrStale) || waited > 1000 {
			t.Fatal(err)
		}
	}
	if waited == 0 {
		t.Error("nothing was locked: the test proves nothing")
	}
}

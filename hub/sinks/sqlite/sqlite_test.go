package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a dir?", "hub #1.db")
	sinktest.Run(t, sinktest.Config{
		Scenarios: 6,
		Open: func(ctx context.Context) (sinktest.Opened, error) {
			s, err := Open(ctx, path)
			return sinktest.Opened{Store: s, Close: s.Close}, err
		},
		Read: func(ctx context.Context) ([]hub.Stored, error) {
			s, err := Open(ctx, path)
			if err != nil {
				return nil, err
			}
			defer s.Close()
			return everything(ctx, s)
		},
		Clear: func(context.Context) error { return os.RemoveAll(filepath.Dir(path)) },
		// SQLite keeps -0 as 0.
		Key: func(x hub.Stored) string { x.Row.Value += 0; return sinktest.Key(x) },
	})
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

// Whoever asks for a series gets it from all epochs, in order, and no more than asked.
func TestRead(t *testing.T) {
	ctx := t.Context()
	s := filled(t)
	at := func(i int64) time.Time { return time.Unix(i, 0) }
	tests := []struct {
		name string
		q    hub.Query
		want []float64
	}{
		{"all", hub.Query{}, []float64{1, 2, 3, 4, 5, 6}},
		{"a device", hub.Query{Device: "a"}, []float64{1, 2, 3, 5}},
		{"a series", hub.Query{Device: "a", Series: "s/x"}, []float64{1, 3, 5}},
		{"the newest", hub.Query{Device: "a", Series: "s/x", Newest: true, Limit: 2}, []float64{5, 3}},
		{"a series of all devices", hub.Query{Series: "s/x"}, []float64{1, 3, 4, 5, 6}},
		{"from", hub.Query{From: at(3)}, []float64{3, 4, 5, 6}},
		{"to", hub.Query{To: at(3), Series: "s/x"}, []float64{1}},
		{"a limit", hub.Query{Limit: 2}, []float64{1, 2}},
		{"another tenant", hub.Query{Tenant: "other"}, nil},
		{"no such series", hub.Query{Series: "s/z"}, nil},
		{"another stream", hub.Query{Stream: edgeagent.StreamAlarm}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []float64
			for x, err := range s.Read(ctx, tt.q) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, x.Row.Value)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
	list, err := s.Series(ctx, "", "a")
	if err != nil || len(list) != 2 || list[0].Key.Name() != "s/x" || list[1].Device != "a" {
		t.Errorf("series %v, %v", list, err)
	}
}

// filled has two epochs of device a and one of b; a reading's value is its second.
func filled(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	put := func(device string, epoch edgeagent.Epoch, rows ...hub.Row) {
		id := hub.EpochID{Tenant: "t", Device: device, Epoch: epoch}
		err := s.Commit(t.Context(), []hub.Change{{
			EpochID: id,
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
	return s
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.db")
	db, err := sql.Open("sqlite", other)
	if err == nil {
		_, err = db.Exec("CREATE TABLE x (y)")
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	later := filepath.Join(dir, "later.db")
	s, err := Open(t.Context(), later)
	if err == nil {
		_, err = s.w.ExecContext(t.Context(), "PRAGMA user_version = 99")
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{other: "something else", later: "version 99", text: "not a database", dir: "open"} {
		s, err := Open(t.Context(), path)
		if err == nil {
			s.Close()
			t.Errorf("%s is opened", path)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// A commit that fails halfway leaves nothing behind, and the next one works.
func TestFailureLeavesNothing(t *testing.T) {
	s := filled(t)
	id := hub.EpochID{Tenant: "t", Device: "new", Epoch: 9}
	change := hub.Change{EpochID: id, Cut: &hub.Cut{Stream: edgeagent.StreamTelemetry, Rows: []hub.Row{{Seq: 1, ID: 1}, {Seq: 1, ID: 1}}}}
	if err := s.Commit(t.Context(), []hub.Change{change}); !errors.Is(err, hub.ErrRefused) {
		t.Fatalf("a record twice in one cut: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Commit(ctx, []hub.Change{{EpochID: id}}); err == nil || errors.Is(err, hub.ErrRefused) {
		t.Fatalf("committed after the end: %v", err)
	}
	if list, err := s.Epochs(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("epochs %v, %v", list, err)
	}
	change.Cut.Rows = change.Cut.Rows[:1]
	if err := s.Commit(t.Context(), []hub.Change{change}); err != nil {
		t.Error(err)
	}
}

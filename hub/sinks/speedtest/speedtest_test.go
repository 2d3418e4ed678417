package speedtest

import (
	"context"
	"errors"
	"testing"

	"github.com/edgeagent/edgeagent/hub"
)

// counting is a store and a raw table that count what they are given.
type counting struct {
	nowhere
	readings, raw, dropped int
	fail                   error
}

func (c *counting) Commit(_ context.Context, changes []hub.Change) error {
	for _, x := range changes {
		if x.Cut != nil {
			c.readings += len(x.Cut.Rows)
		}
	}
	return nil
}
func (c *counting) RawTable(context.Context) error { return c.fail }
func (c *counting) RawDrop(context.Context) error  { c.dropped++; return nil }
func (c *counting) RawInsert(_ context.Context, _ int32, rows []hub.Row) error {
	c.raw += len(rows)
	return nil
}

// TestRun: as many readings go one way as the other, and a failure ends it.
func TestRun(t *testing.T) {
	c := &counting{}
	r, err := Run(t.Context(), Options{Store: c, Raw: c, Batches: 13, PerBatch: 100})
	if err != nil {
		t.Fatal(err)
	}
	if c.readings != 1300 || c.raw != 1300 || c.dropped != 1 || r.Readings != 1300 {
		t.Errorf("%+v after %+v", r, c)
	}
	if r.IngestPerSecond <= 0 || r.RawPerSecond <= 0 || r.Ratio() <= 0 || r.LagP99 < r.LagP50 {
		t.Errorf("result %+v", r)
	}
	c.fail = errors.New("no table")
	if _, err := Run(t.Context(), Options{Store: c, Raw: c}); !errors.Is(err, c.fail) {
		t.Errorf("error %v", err)
	}
	if r, err := Run(t.Context(), Options{Batches: 1}); err != nil || r.RawPerSecond != 0 {
		t.Errorf("without a store: %+v, %v", r, err)
	}
}

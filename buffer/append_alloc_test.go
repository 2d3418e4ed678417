package buffer

import (
	"context"
	"testing"
)

// TestAppendAllocatesNothing: in steady state, between two checkpoints.
func TestAppendAllocatesNothing(t *testing.T) {
	b := open(t, t.TempDir(), options())
	mustAppend(t, b, 0, 30_000)
	flush(t, b)
	rs := readings(0, 10)
	mustAppend(t, b, 0, 10) // names the series in the new head file
	n := testing.AllocsPerRun(200, func() {
		if _, err := b.Append(context.Background(), rs); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations an append", n)
	}
}

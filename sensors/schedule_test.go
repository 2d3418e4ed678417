package sensors

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestGridModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		interval := time.Duration(rapid.Int64Range(int64(MinInterval), int64(time.Hour)).Draw(t, "interval"))
		start := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "start"))
		g := newGrid(start, interval, rapid.String().Draw(t, "name"))
		if gap := g.origin - start; gap < interval/2 || gap >= interval+interval/2+1 {
			t.Fatalf("first tick %v after start of interval %v", gap, interval)
		}
		at := start + time.Duration(rapid.Int64Range(0, 100*int64(interval)).Draw(t, "at"))
		// The slow and obvious way.
		next, n := g.origin, uint64(0)
		for ; next <= at; next += interval {
			n++
		}
		if got := g.after(at); got != next {
			t.Fatalf("after(%v) = %v, want %v", at, got, next)
		}
		if got := g.ticks(start, at); got != n {
			t.Fatalf("ticks(%v, %v) = %d, want %d", start, at, got, n)
		}
	})
}

func TestBackoffBounds(t *testing.T) {
	var b backoff
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
	for i, w := range want {
		if got := b.next(0); got != w*time.Second {
			t.Errorf("wait %d is %v, want %v", i, got, w*time.Second)
		}
	}
	if got := b.next(0.999); got < 30*time.Second || got > 31*time.Second {
		t.Errorf("with full jitter %v, want just over 30s", got)
	}
	b.reset()
	if got := b.next(0); got != time.Second {
		t.Errorf("after reset %v, want 1s", got)
	}
}

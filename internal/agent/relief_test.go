package agent

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

func TestReliefLevels(t *testing.T) {
	var got []int32
	level := int32(0)
	for _, p := range []float64{0, 0.69, 0.70, 0.66, 0.649, 0.86, 0.81, 0.79, 0.96, 1, 0.91, 0.89, 0.2} {
		level = reliefLevel(p, level)
		got = append(got, level)
	}
	if diff := cmp.Diff([]int32{0, 0, 1, 1, 0, 2, 2, 1, 3, 3, 3, 2, 0}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReliefThins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pressure := 0.9
		r := &relief{pressure: func() float64 { return pressure }, logger: slog.New(slog.DiscardHandler)}
		r.look()
		gauge := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "a", Metric: "t"})
		state := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "a", Metric: "door", Kind: edgeagent.State})
		kept := map[edgeagent.Series]int{}
		for i := range 100 {
			rs := []edgeagent.Reading{
				{Series: gauge, Value: float64(i)},
				{Series: state, Value: float64(i / 10)},
				{Series: gauge, Value: -1, Recorded: true},
			}
			if i == 50 {
				rs[0].Quality = edgeagent.Bad
			}
			for _, x := range r.thin(rs) {
				kept[x.Series]++
			}
			if rs[0].Value != float64(i) || len(rs) != 3 {
				t.Fatal("the caller's readings were changed")
			}
		}
		// One in four, the bad one and the good one behind it; each change of the door and
		// one in four of the rest; all that were recorded.
		if n := kept[gauge] - 100; n < 25 || n > 40 {
			t.Errorf("%d readings of the gauge were stored of 100", n)
		}
		if n := kept[state]; n != 30 {
			t.Errorf("%d readings of the door were stored of 100, want 10 changes and 20 besides", n)
		}
		if h := r.Health(); h.Code != "sampling-thinned" || h.Hint == "" {
			t.Errorf("health %+v", h)
		}
		pressure = 0.1
		r.look()
		if rs := make([]edgeagent.Reading, 5); len(r.thin(rs)) != 5 || r.Health().Level != edgeagent.OK {
			t.Error("readings are left out without pressure")
		}
	})
}

// Whatever the buffer says, a sensor never waits for it.
func TestReliefNeverBlocks(t *testing.T) {
	var none *relief
	if rs := make([]edgeagent.Reading, 3); len(none.thin(rs)) != 3 || none.Health().Level != edgeagent.OK {
		t.Error("without relief all are stored")
	}
	synctest.Test(t, func(t *testing.T) {
		r := &relief{pressure: func() float64 { time.Sleep(time.Hour); return 1 }, logger: slog.New(slog.DiscardHandler)}
		go r.look()
		began := time.Now()
		r.thin(make([]edgeagent.Reading, 3))
		if time.Since(began) > 0 {
			t.Errorf("waited %v", time.Since(began))
		}
		time.Sleep(2 * time.Hour)
	})
}

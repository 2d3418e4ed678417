package sensors_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

// A source that fails twice in a row has its last value marked stale, once, and never
// repeated; it begins anew after a good one.
func TestLastValueGoesStaleOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, k := &fake{}, &sink{}
		src.sample = func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			if n == 3 || n >= 5 && n < 12 || n > 13 { // a glitch, then an outage, then the end
				return dst, errors.New("no such device")
			}
			return s.reading(dst, float64(n)), nil
		}
		spec := src.spec("s", time.Second, clock.Go())
		s := bench(t, k, sensors.Options{Clock: clock.Go()}, []sensors.Spec{spec}, func(*sensors.Scheduler) { time.Sleep(10 * time.Minute) })
		want := []any{1.0, "good", 2.0, "good", 4.0, "good", 4.0, "stale", 12.0, "good", 13.0, "good", 13.0, "stale"}
		if diff := cmp.Diff(want, valuesOf(k.got)); diff != "" {
			t.Errorf("readings (-want +got):\n%s", diff)
		}
		if st := s.Stats()[0]; st.LastSample.Run >= k.got[len(k.got)-1].At.Run {
			t.Errorf("a stale value counts as a sample: %v", st.LastSample)
		}
	})
}

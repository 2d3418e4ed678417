package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
)

// relief stores fewer readings while the buffer fills up, so that what is stored lasts
// longer: one in two of each series from 70 % on, one in four from 85 %, one in eight
// from 95 %. Sources go on as they do, and rules see every reading. Kept in any case
// are changes of a state and of quality, alarms, events, and readings whose time the
// source gives: those are not ours to sample.
//
// A nil relief does nothing. It is safe for concurrent use.
type relief struct {
	pressure func() float64
	logger   *slog.Logger

	level   atomic.Int32  // 0 to 3: one in 1<<level is stored
	thinned atomic.Uint64 // readings that were not stored because of it

	mu     sync.Mutex                    // guards series
	series map[edgeagent.Series]relieved // only while level is above 0; bounded by the series there are
}

// relieved is what is remembered of a series.
type relieved struct {
	skipped int32
	value   float64
	quality edgeagent.Quality
}

// reliefAt is the pressure at which each level begins; it ends reliefBack below that.
var reliefAt = [...]float64{0.70, 0.85, 0.95}

const (
	reliefBack  = 0.05
	reliefEvery = 5 * time.Second
)

// Run follows the pressure until ctx ends.
func (r *relief) Run(ctx context.Context) error {
	tick := time.NewTicker(reliefEvery)
	defer tick.Stop()
	for {
		r.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look follows the pressure.
func (r *relief) look() {
	p, was := r.pressure(), r.level.Load()
	now := reliefLevel(p, was)
	if now == was {
		return
	}
	r.level.Store(now)
	if now == 0 {
		r.mu.Lock()
		r.series = nil
		r.mu.Unlock()
	}
	r.logger.Warn("the buffer's room decides how many readings are stored", "one_in", 1<<now, "pressure", p)
}

// reliefLevel returns the level at a pressure, after another.
func reliefLevel(pressure float64, was int32) int32 {
	level := int32(0)
	for i, at := range reliefAt {
		if int32(i) < was {
			at -= reliefBack
		}
		if pressure >= at {
			level = int32(i) + 1
		}
	}
	return level
}

// thin returns the readings that are stored; rs is not changed.
func (r *relief) thin(rs []edgeagent.Reading) []edgeagent.Reading {
	if r == nil || r.level.Load() == 0 {
		return rs
	}
	every := int32(1) << r.level.Load()
	out := make([]edgeagent.Reading, 0, len(rs))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.series == nil {
		r.series = map[edgeagent.Series]relieved{}
	}
	for _, x := range rs {
		if x.Recorded {
			out = append(out, x)
			continue
		}
		last, known := r.series[x.Series]
		changed := !known || x.Quality != last.quality || x.Series.Key().Kind == edgeagent.State && x.Value != last.value
		if !changed && last.skipped+1 < every {
			last.skipped++
			r.series[x.Series] = last
			continue
		}
		r.series[x.Series] = relieved{0, x.Value, x.Quality}
		out = append(out, x)
	}
	r.thinned.Add(uint64(len(rs) - len(out)))
	return out
}

// Health says that readings are left out.
func (r *relief) Health() edgeagent.Health {
	if r == nil || r.level.Load() == 0 {
		return edgeagent.Health{}
	}
	return edgeagent.Health{
		Level: edgeagent.Degraded, Code: "sampling-thinned",
		Text: fmt.Sprintf("the buffer is over %.0f %% full: one reading in %d of each series is stored, %d were left out so far",
			100*reliefAt[r.level.Load()-1], 1<<r.level.Load(), r.thinned.Load()),
		Hint: `mend the uplink, raise "buffer.max_bytes", or set "sampling.pressure: keep" to store all of them`,
	}
}

package anomaly

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// Watch is a [Monitor] as rules ask for it with anomaly() and anomaly_alert().
type Watch struct {
	monitor Monitor
	reason  Reason // of the last alert
	extent  float64
}

var _ rules.Detector = (*Watch)(nil)

// ForRules makes the detector of a series; it is what [rules.Options.Detector] wants.
// Rules ask about gauges, so all checks that the facts allow are on.
func ForRules(_ string, f rules.Facts) rules.Detector {
	return &Watch{monitor: *NewMonitor(Facts{
		Min: f.Min, Max: f.Max, MaxRate: float64(f.MaxRate), Every: f.Every, Resolution: f.Resolution,
	})}
}

// Observe implements [rules.Detector]. The score is NaN while the detector learns, unless
// a physical check fires.
func (w *Watch) Observe(at edgeagent.Instant, synced bool, x float64) (score float64, alert bool) {
	v := w.monitor.Observe(at, synced, x)
	if v.Alert {
		w.reason, w.extent = v.Reason, v.Extent
	}
	if v.Score == 0 && w.monitor.state.detector.Learning() {
		return math.NaN(), v.Alert
	}
	return v.Score, v.Alert
}

// Reason implements [rules.Detector].
func (w *Watch) Reason() string {
	if w.reason == ReasonNone {
		return ""
	}
	return w.reason.Describe(w.extent)
}

// AppendState implements [rules.Detector].
func (w *Watch) AppendState(dst []byte) []byte {
	dst = append(dst, byte(w.reason))
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(w.extent))
	return w.monitor.AppendSnapshot(dst)
}

// SetState implements [rules.Detector]. On error the watch is as before.
func (w *Watch) SetState(state []byte) error {
	if len(state) < 9 || Reason(state[0]) >= reasons {
		return fmt.Errorf("restore a detector: %w", errSnapshot)
	}
	extent := math.Float64frombits(binary.LittleEndian.Uint64(state[1:]))
	if math.IsNaN(extent) {
		return fmt.Errorf("restore a detector: %w", errSnapshot)
	}
	if err := w.monitor.Restore(state[9:]); err != nil {
		return err
	}
	w.reason, w.extent = Reason(state[0]), extent
	return nil
}

// Size implements [rules.Detector].
func (w *Watch) Size() int64 { return int64(unsafe.Sizeof(*w)) }

package anomaly

import (
	"fmt"
	"math"
)

// Reason says which evidence spoke loudest. The names are stable.
type Reason uint8

// The reasons, each with what [Result.Extent] means beside it.
const (
	ReasonNone       Reason = iota
	ReasonLevel             // far from the usual level: in usual distances
	ReasonChange            // a large step from one reading to the next: in usual steps
	ReasonMean              // the mean of the last readings is far from the usual level: in usual distances
	ReasonVolatility        // the readings are more, or less, restless than usual: logarithm of the ratio
	ReasonSeason            // not as usual at this time of the day or week: in usual distances
	ReasonRecord            // beyond all that was seen: share of the range
	ReasonMeanRecord        // the mean of the last readings is beyond all that was seen: share of its range
	ReasonDensity           // much that is a little unusual comes together: mean evidence
	ReasonLimits            // outside the physical limits: the limit that is passed
	ReasonRate              // changes faster than it can: units per second
	ReasonStuck             // does not change any more: seconds
	ReasonMissing           // does not come any more: seconds
	ReasonNoise             // noisier than it has ever been: times the usual noise
	ReasonDrift             // has slowly left where it always was: share of its range
	reasons
)

var reasonNames = [reasons]string{
	"none", "level", "change", "mean", "volatility", "season", "record", "mean-record", "density",
	"limits", "rate", "stuck", "missing", "noise", "drift",
}

// String returns the name.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Describe says in words what was found; extent is that of the [Result] or [Verdict].
func (r Reason) Describe(extent float64) string {
	switch r {
	case ReasonLevel:
		return fmt.Sprintf("%.2g times its usual distance from the usual level", extent)
	case ReasonChange:
		return fmt.Sprintf("a step %.2g times the usual one", extent)
	case ReasonMean:
		return fmt.Sprintf("the last readings are %.2g times the usual distance from the usual level", extent)
	case ReasonVolatility:
		return fmt.Sprintf("restlessness differs from the usual by a factor of %.2g", math.Exp(min(extent, mostLog)))
	case ReasonSeason:
		return fmt.Sprintf("%.2g times the usual distance from what is usual at this time", extent)
	case ReasonRecord:
		return fmt.Sprintf("beyond all values so far, by %.2g %% of their range", 100*extent)
	case ReasonMeanRecord:
		return fmt.Sprintf("the last readings are beyond all before, by %.2g %% of their range", 100*extent)
	case ReasonDensity:
		return "many unusual readings together"
	case ReasonLimits:
		return fmt.Sprintf("outside the physical limit %g", extent)
	case ReasonRate:
		return fmt.Sprintf("changes by %.3g per second, faster than it can", extent)
	case ReasonStuck:
		return fmt.Sprintf("no change for %.0f s", extent)
	case ReasonMissing:
		return fmt.Sprintf("no reading for %.0f s", extent)
	case ReasonNoise:
		return fmt.Sprintf("%.2g times the usual noise", extent)
	case ReasonDrift:
		return "its daily mean has slowly left where it always was"
	}
	return "nothing unusual"
}

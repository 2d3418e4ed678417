package edgeagent

import "time"

// Rollup stands for the readings of one series in one bucket of time, after they
// had to give way. Buckets are aligned to the Unix epoch. Of the readings that
// were taken while the clock could not be trusted, or on both sides of a step of
// the clock, none share a rollup; a bucket in which that happens has several.
//
// Rollups of the same series and bucket add up: their counts and sums do, and the
// extremes are those of all.
type Rollup struct {
	Series Series
	At     Instant       // of the first reading, whatever its value
	Bucket time.Duration // its length, whole seconds
	// Count counts the readings that the rest speaks of, at least 1: those of
	// quality [Bad], NaN and infinities are left out.
	Count uint64
	Sum   float64
	Min   float64
	Max   float64
	First float64 // in the order in which they were appended
	Last  float64
}

// RollupContent is implemented by the content of batches of [StreamRollup].
type RollupContent interface {
	// Rollups appends the batch's rollups to dst, in sequence order.
	Rollups(dst []Rollup) ([]Rollup, error)
}

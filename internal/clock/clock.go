package clock

import "time"

// Clock tells the time. Implementations are safe for concurrent use.
type Clock interface {
	// Wall returns the wall time.
	Wall() time.Time
	// Run returns the time since the clock was made: monotonic, suspend included
	// where the system can tell.
	Run() time.Duration
	// Synced reports whether the wall time can be trusted.
	Synced() bool
}

// Go returns a clock on Go's own time: run time stops in suspend, wall time is
// always trusted. Inside a testing/synctest bubble it is virtual.
func Go() Clock { return goClock{time.Now()} }

type goClock struct{ start time.Time }

func (c goClock) Wall() time.Time    { return time.Now() }
func (c goClock) Run() time.Duration { return time.Since(c.start) }
func (c goClock) Synced() bool       { return true }

// Trust says who vouches for the wall time.
type Trust string

// The values of the configuration key clock.source.
const (
	// Auto trusts the wall time when the kernel says it is synchronised, or an
	// RTC device or a machine without a device tree vouches for it.
	Auto Trust = "auto"
	// Trusted trusts the wall time always.
	Trusted Trust = "trusted"
)

// System returns the machine's clock. floor is the earliest wall time that can be
// right (the build time, or the last time the agent ran): a clock below it is
// unsynced whatever the kernel says.
func System(trust Trust, floor time.Time) Clock {
	return &system{start: bootTime(), trust: trust, floor: floor, vouched: hardwareVouches()}
}

type system struct {
	start   time.Duration
	trust   Trust
	floor   time.Time
	vouched bool
}

// Uptime returns the time since the machine was booted as far as the clock knows, else
// since the clock was made.
func Uptime(c Clock) time.Duration {
	if s, ok := c.(*system); ok {
		return s.start + s.Run()
	}
	return c.Run()
}

func (c *system) Wall() time.Time    { return time.Now() }
func (c *system) Run() time.Duration { return bootTime() - c.start }

func (c *system) Synced() bool {
	if c.trust == Trusted {
		return true
	}
	if time.Now().Before(c.floor) {
		return false
	}
	return c.vouched || kernelSynced()
}

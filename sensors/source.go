package sensors

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// Source is one sensor. Sample appends what the sensor says now to dst and
// returns it, in the manner of append: a source allocates nothing in steady
// state. It honours ctx where the hardware lets it, and is never called
// concurrently with itself.
type Source interface {
	Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error)
	Close() error
}

// Paced is a Source that knows when its next reading is due, such as a replay. The
// scheduler calls Sample again after the returned wait instead of after the
// configured interval, and does not jitter its phase.
type Paced interface {
	Source
	// Next returns how long to wait before the next Sample.
	Next() time.Duration
}

// Verbatim is a Source that passes on what somebody else measured, such as a
// replay. Its readings may be NaN or infinite; from any other source the scheduler
// refuses them, because a driver that says NaN has made a mistake.
type Verbatim interface {
	Source
	Verbatim() bool
}

// Informed is a Source that has to know what became of its readings, such as one
// that answers for them. Taken is called after every Sample that gave readings, with
// nil once the sink has taken all of them, before the next call.
type Informed interface {
	Source
	Taken(err error)
}

// ErrEnd is returned by Sample, possibly with a last few readings, when a source
// has ended by itself and will never have another reading.
var ErrEnd = errors.New("source has ended")

// Env is what a driver may use of the world around it. Everything in it can be
// replaced: tests point Root at a fake tree, the demo puts simulated chips behind
// I2C.
type Env struct {
	// Sensor is the configured name; every series of the source bears it.
	Sensor string
	// Tags are the configured dimensions of the sensor.
	Tags edgeagent.Pairs
	// Root is the directory under which drivers look for /sys and /proc.
	Root string
	// Dir is the directory of the configuration file; relative paths start there.
	Dir string
	// State is a directory for what a source has to know after a restart, in files
	// that bear the sensor's name; it may not exist yet. Empty: nothing is kept.
	State  string
	Clock  clock.Clock
	Logger *slog.Logger
	// I2C opens an I²C bus by name or number ("1", "/dev/i2c-1").
	I2C OpenI2C
}

// OpenI2C opens an I²C bus. It is an alias, so that whoever passes one on need not
// import periph.
type OpenI2C = func(bus string) (i2c.BusCloser, error)

// Now returns the time for a reading that the agent stamps itself.
func (e Env) Now() edgeagent.Instant {
	return edgeagent.Instant{Wall: e.Clock.Wall().UnixNano(), Run: int64(e.Clock.Run())}
}

// DriverConfig is the part of a sensor's configuration that belongs to its
// driver: a plain struct with yaml tags. Validate names the offending key in each
// error it returns (see [edgeagent.FieldError]).
type DriverConfig interface {
	Validate() error
	Open(ctx context.Context, env Env) (Source, error)
}

// SelfPaced is a DriverConfig whose sources may not keep the configured interval,
// since something else decides when they have readings.
type SelfPaced interface {
	DriverConfig
	// Pace returns how often each series has a reading at least; 0: nobody knows.
	// own is false where the configured interval holds after all.
	Pace() (every time.Duration, own bool)
}

// Driver is an entry of the one list of drivers, which internal/agent holds.
type Driver struct {
	Name string // the value of the key "driver" in the configuration
	// Summary is one line for people: what it reads.
	Summary string
	// New returns the driver's configuration with its defaults set.
	New func() DriverConfig
	// Datasheet is nil for drivers of what is no chip.
	Datasheet *Datasheet
}

// Config is the part of a sensor's configuration that all drivers share. The
// driver's own keys stand beside these in the same mapping.
type Config struct {
	Name     string            `yaml:"name"`
	Driver   string            `yaml:"driver"`
	Interval time.Duration     `yaml:"interval"` // default 1s
	Timeout  time.Duration     `yaml:"timeout"`  // of one sample; default max(interval, 2s), at most 30s
	Tags     map[string]string `yaml:"tags"`

	Conditioning

	// Options is the driver's part, decoded from the same mapping.
	Options DriverConfig `yaml:"-"`
}

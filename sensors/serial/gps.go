package serial

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"go.bug.st/serial"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{{
		Name:    "gps",
		Summary: "a satellite receiver on a serial port that speaks NMEA 0183: position, speed, fix",
		New:     func() sensors.DriverConfig { return Default() },
	}}
}

// Config is the configuration of the driver gps.
type Config struct {
	Port  string `yaml:"port"`  // "/dev/serial/by-id/usb-u-blox…"
	Speed int    `yaml:"speed"` // baud; default 9600
	// Every is the least time between two positions; default 1 s. The receiver sets
	// the pace otherwise.
	Every time.Duration `yaml:"every"`
	// Time: take the receiver's time for that of the readings.
	Time bool `yaml:"time"`
}

// Bounds of the configuration.
const (
	minEvery = 100 * time.Millisecond
	maxEvery = 24 * time.Hour
)

// Default returns the configuration with its defaults set.
func Default() *Config { return &Config{Speed: 9600, Every: time.Second} }

// Validate checks the keys.
func (c *Config) Validate() error {
	var errs []error
	if !strings.HasPrefix(c.Port, "/") {
		errs = append(errs, edgeagent.Field("port", "%w", edgeagent.WithHint(fmt.Errorf("%q is not the path of a serial port", c.Port),
			`write "port: /dev/serial/by-id/…", or /dev/ttyACM0`)))
	}
	if c.Speed < 300 || c.Speed > 4_000_000 {
		errs = append(errs, edgeagent.Field("speed", "%d is out of range, want 300 to 4000000", c.Speed))
	}
	if c.Every < minEvery || c.Every > maxEvery {
		errs = append(errs, edgeagent.Field("every", "%s is out of range, want %s to 24h", c.Every, minEvery))
	}
	return errors.Join(errs...)
}

// Pace implements sensors.SelfPaced.
func (c *Config) Pace() (time.Duration, bool) { return max(c.Every, time.Second), true }

// Open opens nothing yet: the port is sought by Sample.
func (c *Config) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	return newSource(env, c, openPort), nil
}

// port is what is needed of a serial port. Read returns 0 bytes when nothing came for
// a while.
type port interface {
	Read(p []byte) (int, error)
	Close() error
}

// readWait is how long Read waits: how soon a source notices that it shall end.
const readWait = 250 * time.Millisecond

func openPort(name string, speed int) (port, error) {
	p, err := serial.Open(name, &serial.Mode{BaudRate: speed, DataBits: 8})
	if err != nil {
		return nil, err
	}
	if err := p.SetReadTimeout(readWait); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

const (
	sampleWait = time.Second // keeps a sample below the scheduler's deadline
	silence    = 5 * time.Second
	redialBase = time.Second
	redialCap  = time.Minute
	maxLine    = 120 // bytes; the standard says 82
)

var errClosed = errors.New("sensor is closed")

var (
	_ sensors.Paced     = (*source)(nil)
	_ sensors.SelfPaced = (*Config)(nil)
)

type source struct {
	env  sensors.Env
	cfg  *Config
	open func(name string, speed int) (port, error)

	port   port // nil: not open
	redial time.Duration
	next   time.Duration // wait before the next Sample
	closed bool

	buf    [512]byte
	line   []byte // up to maxLine bytes of the line under way
	skip   bool   // the line is too long
	now    fix
	ready  fix           // a whole moment that waits for its turn
	waits  bool          // there is one
	heard  time.Duration // run time of the last right sentence
	bad    int           // lines refused since then
	why    error         // the last of them
	spoke  time.Duration // run time of the last readings
	spoken bool
	series series
}

// series are the handles of the readings.
type series struct {
	fix, latitude, longitude, altitude, speed, course, satellites, hdop edgeagent.Series
}

func newSource(env sensors.Env, c *Config, open func(name string, speed int) (port, error)) *source {
	gauge := func(metric, unit string) edgeagent.Series { return env.NewSeries(metric, unit, edgeagent.Gauge) }
	return &source{
		env: env, cfg: c, open: open, line: make([]byte, 0, maxLine),
		series: series{
			fix: edgeagent.NewSeries(edgeagent.SeriesKey{
				Sensor: env.Sensor, Metric: "fix", Kind: edgeagent.State, Resolution: edgeagent.DefaultResolution, Tags: env.Tags,
				Labels: edgeagent.MakePairs(map[string]string{
					"0": "none", "1": "autonomous", "2": "differential", "3": "precise", "4": "rtk", "5": "rtk float", "6": "estimated", "7": "manual", "8": "simulated",
				}),
			}),
			latitude: gauge("latitude", "deg"), longitude: gauge("longitude", "deg"), altitude: gauge("altitude", "m"),
			speed: gauge("speed", "m/s"), course: gauge("course", "deg"), satellites: gauge("satellites", ""), hdop: gauge("hdop", ""),
		},
	}
}

// Next is 0 while the port is open: Sample waits by itself.
func (s *source) Next() time.Duration { return s.next }

// Sample listens for up to a second and gives the newest whole moment, if it is due.
func (s *source) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	if err := s.connected(); err != nil {
		return dst, err
	}
	for end := s.env.Clock.Run() + sampleWait; ctx.Err() == nil; {
		n, err := s.port.Read(s.buf[:])
		if err != nil {
			return dst, s.lost(err)
		}
		s.hear(s.buf[:n])
		now := s.env.Clock.Run()
		if s.waits && (!s.spoken || now-s.spoke >= s.cfg.Every) {
			s.waits, s.spoken, s.spoke = false, true, now
			return s.readings(dst, &s.ready), nil
		}
		if now >= end {
			break
		}
	}
	return dst, s.quiet()
}

// connected opens the port unless it is open.
func (s *source) connected() error {
	s.next = 0
	if s.port != nil {
		return nil
	}
	p, err := s.open(s.cfg.Port, s.cfg.Speed)
	if err != nil {
		return s.backOff(fmt.Errorf("open %s: %w", s.cfg.Port, err))
	}
	s.port, s.line, s.skip, s.heard, s.bad, s.waits = p, s.line[:0], false, s.env.Clock.Run(), 0, false
	s.now = fix{}
	return nil
}

// lost closes a port that failed: what is behind it may come back.
func (s *source) lost(err error) error {
	err = errors.Join(fmt.Errorf("read %s: %w", s.cfg.Port, err), s.port.Close())
	s.port = nil
	return s.backOff(err)
}

func (s *source) backOff(err error) error {
	s.redial = min(max(2*s.redial, redialBase), redialCap)
	s.next = s.redial
	hint := "look whether it is plugged in, and name it by its path in /dev/serial/by-id, which stays the same"
	if refused, ok := errors.AsType[*serial.PortError](err); ok && refused.Code() == serial.PermissionDenied || errors.Is(err, fs.ErrPermission) {
		hint = "add the user to the group dialout"
	} else if ok && refused.Code() == serial.PortBusy {
		hint = "another program has the port: gpsd, perhaps"
	}
	return edgeagent.WithHint(err, hint)
}

// quiet is the error of a port that has said nothing right for too long.
func (s *source) quiet() error {
	if s.env.Clock.Run()-s.heard < silence {
		return nil
	}
	s.heard = s.env.Clock.Run() // say it again only after as long
	err := fmt.Errorf("no sentence from %s for %s", s.cfg.Port, silence)
	if s.bad > 0 {
		err = fmt.Errorf("nothing that makes sense from %s for %s, %d lines refused: %w", s.cfg.Port, silence, s.bad, s.why)
	}
	s.bad = 0
	return edgeagent.WithHint(err, "check the key speed: 4800, 9600, 38400 and 115200 are usual")
}

// hear takes bytes as they come.
func (s *source) hear(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		part := b[:cmp.Or(i+1, len(b))]
		b = b[len(part):]
		if s.skip || len(s.line)+len(part) > maxLine {
			s.skip, s.line = true, s.line[:0]
		} else {
			s.line = append(s.line, part...)
		}
		if i >= 0 {
			s.endOfLine()
		}
	}
}

func (s *source) endOfLine() {
	defer func() { s.line, s.skip = s.line[:0], false }()
	if s.skip {
		s.refuse(errNoSentence)
		return
	}
	before, other, err := s.now.read(s.line)
	switch {
	case err != nil:
		s.refuse(err)
		return
	case other:
		s.heard, s.redial = s.env.Clock.Run(), 0
		return
	}
	s.heard, s.redial, s.bad = s.env.Clock.Run(), 0, 0
	switch {
	case s.now.rmc && s.now.gga: // whole; its twin would begin another
		s.ready, s.waits = s.now, true
	case before.rmc != before.gga: // this receiver sends only one
		s.ready, s.waits = before, true
	}
}

func (s *source) refuse(err error) {
	s.bad++
	s.why = err
}

// readings appends what a moment says.
func (s *source) readings(dst []edgeagent.Reading, f *fix) []edgeagent.Reading {
	r := edgeagent.Reading{At: s.env.Now()}
	if s.cfg.Time && !f.when.IsZero() && f.valid {
		r.At.Wall, r.Recorded = f.when.UnixNano(), true
	}
	add := func(series edgeagent.Series, v float64, there bool) {
		if there {
			r.Series, r.Value = series, v
			dst = append(dst, r)
		}
	}
	add(s.series.fix, float64(f.state()), true)
	add(s.series.satellites, f.satellites, f.has&hasSatellites != 0)
	if !f.fixed() {
		return dst
	}
	if f.doubtful() {
		r.Quality = edgeagent.Suspect
	}
	add(s.series.latitude, f.latitude, f.has&hasPosition != 0)
	add(s.series.longitude, f.longitude, f.has&hasPosition != 0)
	add(s.series.altitude, f.altitude, f.has&hasAltitude != 0)
	add(s.series.speed, f.speed, f.has&hasSpeed != 0)
	add(s.series.course, f.course, f.has&hasCourse != 0)
	add(s.series.hdop, f.hdop, f.has&hasHDOP != 0)
	return dst
}

// Close closes the port.
func (s *source) Close() error {
	s.closed = true
	if s.port == nil {
		return nil
	}
	err := s.port.Close()
	s.port = nil
	return err
}

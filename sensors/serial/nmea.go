package serial

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"time"
)

// fix is what a receiver says of one moment.
type fix struct {
	stamp  string // time of day as it is written: what tells moments apart
	rmc    bool
	gga    bool
	valid  bool // RMC says that there is a fix
	solved int  // GGA: 0 none, 1 autonomous, 2 differential, 4 and 5 RTK, 6 estimated, 7 by hand, 8 simulated

	latitude, longitude float64 // degrees, north and east positive
	speed, course       float64 // m/s, degrees from true north
	altitude, hdop      float64 // m above the geoid
	satellites          float64
	// has says which of the numbers above are there.
	has  uint8
	when time.Time // of RMC, which alone has the date
}

const (
	hasPosition uint8 = 1 << iota
	hasSpeed
	hasCourse
	hasAltitude
	hasHDOP
	hasSatellites
)

var (
	errNoSentence = errors.New("not a sentence of NMEA 0183")
	errChecksum   = errors.New("wrong checksum")
	errField      = errors.New("a field that makes no sense")
)

// knot is 1852 m an hour, in m/s.
const knot = 1852.0 / 3600

// fields takes a line apart: "$GPRMC,…*hh". Without a right checksum it is refused, as
// the standard allows receivers to leave it out and the wire does not.
func fields(line []byte) ([][]byte, error) {
	line = bytes.TrimRight(line, "\r\n")
	start := bytes.LastIndexByte(line, '$')
	star := bytes.LastIndexByte(line, '*')
	if start < 0 || star < start || star+3 != len(line) {
		return nil, errNoSentence
	}
	want, err := strconv.ParseUint(string(line[star+1:]), 16, 8)
	if err != nil {
		return nil, errNoSentence
	}
	body := line[start+1 : star]
	var sum byte
	for _, b := range body {
		sum ^= b
	}
	if sum != byte(want) {
		return nil, errChecksum
	}
	return bytes.Split(body, []byte{','}), nil
}

// read adds a sentence to what is known of its moment. other means that the sentence is
// of another kind. When it begins another moment, f is replaced, and the one before is
// returned.
func (f *fix) read(line []byte) (before fix, other bool, err error) {
	list, err := fields(line)
	if err != nil {
		return fix{}, false, err
	}
	kind := ""
	if name := list[0]; len(name) == 5 {
		kind = string(name[2:])
	}
	var next fix
	switch {
	case kind == "RMC" && len(list) >= 10:
		next, err = rmc(list)
	case kind == "GGA" && len(list) >= 10:
		next, err = gga(list)
	default:
		return fix{}, true, nil
	}
	if err != nil {
		return fix{}, false, err
	}
	if next.stamp != f.stamp || next.rmc && f.rmc || next.gga && f.gga {
		before = *f
		*f = next
		return before, false, nil
	}
	f.merge(next)
	return fix{}, false, nil
}

// merge adds the other sentence of the same moment.
func (f *fix) merge(x fix) {
	if x.rmc {
		f.rmc, f.valid, f.when = true, x.valid, x.when
		f.speed, f.course = x.speed, x.course
	}
	if x.gga {
		f.gga, f.solved = true, x.solved
		f.altitude, f.hdop, f.satellites = x.altitude, x.hdop, x.satellites
	}
	if x.has&hasPosition != 0 && f.has&hasPosition == 0 {
		f.latitude, f.longitude = x.latitude, x.longitude
	}
	f.has |= x.has
}

// rmc reads "recommended minimum": time, status, position, speed, course, date.
func rmc(list [][]byte) (fix, error) {
	f := fix{rmc: true, stamp: string(list[1]), valid: string(list[2]) == "A"}
	if err := f.position(list[3:7]); err != nil {
		return f, err
	}
	var err error
	if f.speed, err = f.number(list[7], hasSpeed, 0, 5000); err != nil {
		return f, err
	}
	f.speed *= knot
	if f.course, err = f.number(list[8], hasCourse, 0, 360); err != nil {
		return f, err
	}
	// A date or time that makes no sense is none: nothing else depends on it.
	if t, err := time.Parse("020106 150405", string(list[9])+" "+string(list[1])); err == nil {
		f.when = t
	}
	return f, nil
}

// gga reads "fix data": time, position, quality, satellites, dilution, altitude.
func gga(list [][]byte) (fix, error) {
	f := fix{gga: true, stamp: string(list[1])}
	if err := f.position(list[2:6]); err != nil {
		return f, err
	}
	solved, err := f.number(list[6], 0, 0, 9)
	if err != nil || solved != math.Trunc(solved) {
		return f, errField
	}
	f.solved = int(solved)
	if f.satellites, err = f.number(list[7], hasSatellites, 0, 200); err != nil {
		return f, err
	}
	if f.hdop, err = f.number(list[8], hasHDOP, 0, 1000); err != nil {
		return f, err
	}
	f.altitude, err = f.number(list[9], hasAltitude, -20_000, 100_000)
	return f, err
}

// number reads a field, which may be empty, and notes that it is there.
func (f *fix) number(b []byte, flag uint8, low, high float64) (float64, error) {
	if len(b) == 0 {
		return 0, nil
	}
	v, err := decimal(b)
	if err != nil || v < low || v > high {
		return 0, errField
	}
	f.has |= flag
	return v, nil
}

// decimal reads digits with a point, and nothing else that Go would take for a number.
func decimal(b []byte) (float64, error) {
	if len(bytes.Trim(b, "0123456789.-")) > 0 {
		return 0, errField
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return 0, errField
	}
	return v, nil
}

// position reads "4916.45,N,12311.12,W": degrees and minutes in one number.
func (f *fix) position(list [][]byte) error {
	if len(list[0]) == 0 && len(list[2]) == 0 {
		return nil
	}
	lat, err := angle(list[0], 2, list[1], "N", "S")
	if err != nil || lat < -90 || lat > 90 {
		return errField
	}
	lon, err := angle(list[2], 3, list[3], "E", "W")
	if err != nil || lon < -180 || lon > 180 {
		return errField
	}
	f.latitude, f.longitude, f.has = lat, lon, f.has|hasPosition
	return nil
}

func angle(b []byte, digits int, side []byte, plus, minus string) (float64, error) {
	if len(b) < digits+2 || b[0] == '-' {
		return 0, errField
	}
	whole, err := decimal(b[:digits])
	if err != nil {
		return 0, err
	}
	minutes, err := decimal(b[digits:])
	if err != nil || minutes < 0 || minutes >= 60 {
		return 0, errField
	}
	// More digits than a receiver means: 1e-8 degrees are a millimetre.
	v := math.Round((whole+minutes/60)*1e8) / 1e8
	switch string(side) {
	case plus:
		return v, nil
	case minus:
		return -v, nil
	}
	return 0, errField
}

// fixed reports whether the receiver knows where it is.
func (f *fix) fixed() bool {
	return (!f.rmc || f.valid) && (!f.gga || f.solved > 0) && (f.rmc || f.gga)
}

// state is what the series fix says: 0 none, else the number of GGA; 1 where there is
// only RMC.
func (f *fix) state() int {
	switch {
	case !f.fixed():
		return 0
	case f.gga:
		return f.solved
	}
	return 1
}

// doubtful reports whether the fix is no measurement.
func (f *fix) doubtful() bool { return f.solved >= 6 && f.solved <= 8 }

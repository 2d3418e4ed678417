package bus

import "time"

// AHT20 is an Aosong AHT20: temperature and humidity, measured on command. It has
// one address.
type AHT20 struct {
	core
	air        Air
	calibrated bool
	ready      time.Time // end of the measurement under way
	measuring  bool
	data       [5]byte
}

// NewAHT20 makes a chip, at its address 0x38.
func NewAHT20(air Air) *AHT20 {
	c := &AHT20{air: air}
	c.begin(0x38, c)
	return c
}

const aht20Conversion = 75 * time.Millisecond

func (c *AHT20) powerOn() { c.calibrated, c.measuring, c.data = false, false, [5]byte{} }

func (c *AHT20) transact(w, r []byte) error {
	if len(w) == 3 && w[0] == 0xBE {
		c.calibrated = true
	}
	if len(w) == 3 && w[0] == 0xAC && w[1] == 0x33 && !c.measuring {
		c.measuring, c.ready = true, time.Now().Add(aht20Conversion)
	}
	c.advance()
	if len(r) == 0 {
		return nil
	}
	clear(r)
	var all [7]byte
	all[0] = 0x10
	if c.measuring {
		all[0] |= 0x80
	}
	if c.calibrated {
		all[0] |= 0x08
	}
	copy(all[1:], c.data[:])
	all[6] = crc8(all[:6])
	copy(r, all[:])
	return nil
}

func (c *AHT20) advance() {
	if !c.measuring || time.Now().Before(c.ready) {
		return
	}
	c.measuring = false
	celsius, _, percent := c.air()
	h := counts(c.measure(1, percent, 100), 100.0/(1<<20), 0, 1<<20-1)
	t := counts(c.measure(0, celsius, 125)+50, 200.0/(1<<20), 0, 1<<20-1)
	c.data = [5]byte{byte(h >> 12), byte(h >> 4), byte(h<<4) | byte(t>>16), byte(t >> 8), byte(t)}
}

// SHT is a Sensirion SHT3x or SHT4x: temperature and humidity, measured on command,
// each word with its checksum. Periodic measurements, alerts and the heater are not
// modelled. It does not acknowledge a read before it has measured.
type SHT struct {
	core
	air        Air
	conversion func(w []byte) time.Duration // of a command; 0 if it is none
	humidity   func(percent float64) float64
	ready      time.Time
	has        bool // a measurement that nobody has read yet, or one under way
	t, h       uint16
	long       bool      // commands have two bytes: it is an SHT3x
	told       [2]uint16 // the answer to a command that is no measurement
	tells      bool
}

// NewSHT3x makes a chip (SHT30, SHT31, SHT35) at addr, which is 0x44 or 0x45 on a
// real one.
func NewSHT3x(addr uint16, air Air) *SHT {
	c := &SHT{air: air, long: true, conversion: sht3xConversion, humidity: func(percent float64) float64 { return percent * 65535 / 100 }}
	c.begin(addr, c)
	return c
}

// NewSHT4x makes a chip (SHT40, SHT41, SHT45) at addr, which is 0x44, 0x45 or 0x46
// on a real one.
func NewSHT4x(addr uint16, air Air) *SHT {
	c := &SHT{air: air, conversion: sht4xConversion, humidity: func(percent float64) float64 { return (percent + 6) * 65535 / 125 }}
	c.begin(addr, c)
	return c
}

// sht3xConversion returns the typical times of the data sheet, single shot without
// clock stretching.
func sht3xConversion(w []byte) time.Duration {
	if len(w) != 2 || w[0] != 0x24 {
		return 0
	}
	switch w[1] {
	case 0x00:
		return 12500 * time.Microsecond
	case 0x0B:
		return 4500 * time.Microsecond
	case 0x16:
		return 2500 * time.Microsecond
	}
	return 0
}

// sht4xConversion returns the typical times of the data sheet.
func sht4xConversion(w []byte) time.Duration {
	if len(w) != 1 {
		return 0
	}
	switch w[0] {
	case 0xFD:
		return 6900 * time.Microsecond
	case 0xF6:
		return 3700 * time.Microsecond
	case 0xE0:
		return 1300 * time.Microsecond
	}
	return 0
}

func (c *SHT) powerOn() { c.has, c.tells = false, false }

// tell answers commands that are no measurement, as far as the kernel's drivers and a
// scan use them: resets, the status and the limits of alerts (all 0), the serial number.
func (c *SHT) tell(w []byte) bool {
	switch {
	case c.long && len(w) == 2 && w[0] == 0x30 && (w[1] == 0xA2 || w[1] == 0x41), !c.long && len(w) == 1 && w[0] == 0x94:
		c.powerOn()
	case c.long && len(w) == 2 && (w[0] == 0xE1 || w[0] == 0xF3 && w[1] == 0x2D):
		c.told, c.tells = [2]uint16{}, true
	case !c.long && len(w) == 1 && w[0] == 0x89:
		c.told, c.tells = [2]uint16{0xF896, 0x31CD}, true
	default:
		return false
	}
	return true
}

func (c *SHT) transact(w, r []byte) error {
	now := time.Now()
	if len(w) > 0 && c.tell(w) {
		w = nil
		if len(r) == 0 {
			return nil
		}
	}
	if c.tells && len(r) > 0 {
		c.tells = false
		putWords(r, c.told[0], c.told[1])
		return nil
	}
	if len(w) > 0 {
		d := c.conversion(w)
		if d == 0 {
			return ErrNAK
		}
		celsius, _, percent := c.air()
		c.has, c.ready = true, now.Add(d)
		c.t = uint16(counts((c.measure(0, celsius, 170)+45)*65535/175, 1, 0, 65535))
		c.h = uint16(counts(c.humidity(c.measure(1, percent, 100)), 1, 0, 65535))
	}
	if len(r) == 0 {
		return nil
	}
	if !c.has || now.Before(c.ready) {
		return ErrNAK
	}
	c.has = false
	putWords(r, c.t, c.h)
	return nil
}

// SCD4x is a Sensirion SCD40 or SCD41: carbon dioxide, temperature and humidity,
// measured every five seconds once it is told to. Corrections for pressure and
// altitude are kept and change nothing, self-calibration is not modelled.
type SCD4x struct {
	core
	air      Air
	co2      Quantity
	period   time.Duration // 0: it does not measure
	next     time.Time
	fresh    bool
	words    [3]uint16
	answer   uint16 // the command whose answer is to be read
	busy     time.Time
	altitude uint16
	uncal    bool // self-calibration is off
}

// NewSCD4x makes a chip, at its address 0x62. co2 is in ppm.
func NewSCD4x(air Air, co2 Quantity) *SCD4x {
	c := &SCD4x{air: air, co2: co2}
	c.begin(0x62, c)
	return c
}

func (c *SCD4x) powerOn() {
	c.period, c.fresh, c.words, c.answer = 0, false, [3]uint16{}, 0
	c.altitude, c.uncal = 0, false
}

// transact does a command, its argument with a checksum, or reads the answer of the
// last one. A chip that measures refuses what it cannot do meanwhile.
func (c *SCD4x) transact(w, r []byte) error {
	now := time.Now()
	if now.Before(c.busy) {
		return ErrNAK
	}
	c.advance(now)
	if len(w) >= 2 {
		if err := c.command(now, uint16(w[0])<<8|uint16(w[1]), w[2:]); err != nil {
			return err
		}
	}
	if len(r) == 0 {
		return nil
	}
	return c.read(r)
}

func (c *SCD4x) command(now time.Time, cmd uint16, arg []byte) error {
	measuring := c.period > 0
	if len(arg) >= 3 && crc8(arg[:2]) != arg[2] {
		return ErrNAK
	}
	c.answer = cmd
	switch cmd {
	case 0xE4B8, 0xEC05: // is data ready, read it
		return nil
	case 0x3F86: // stop
		c.period, c.fresh = 0, false
		c.busy = now.Add(500 * time.Millisecond)
		return nil
	}
	if measuring {
		return ErrNAK
	}
	switch cmd {
	case 0x21B1:
		c.period, c.next = 5*time.Second, now.Add(5*time.Second)
	case 0x21AC:
		c.period, c.next = 30*time.Second, now.Add(30*time.Second)
	case 0x2427:
		c.altitude = uint16(arg[0])<<8 | uint16(arg[1])
	case 0x2416:
		c.uncal = arg[1] == 0
	case 0x3682: // serial number
	default:
		return ErrNAK
	}
	return nil
}

func (c *SCD4x) advance(now time.Time) {
	if c.period == 0 || now.Before(c.next) {
		return
	}
	c.next = c.next.Add((now.Sub(c.next)/c.period + 1) * c.period)
	celsius, _, percent := c.air()
	c.words = [3]uint16{
		uint16(counts(c.measure(2, c.co2(), 40000), 1, 0, 40000)),
		uint16(counts((c.measure(0, celsius, 70)+45)*65535/175, 1, 0, 65535)),
		uint16(counts(c.measure(1, percent, 100)*65535/100, 1, 0, 65535)),
	}
	c.fresh = true
}

func (c *SCD4x) read(r []byte) error {
	switch c.answer {
	case 0xE4B8:
		status := uint16(0x8000)
		if c.fresh {
			status = 0x8006
		}
		putWords(r, status)
	case 0xEC05:
		if !c.fresh {
			return ErrNAK
		}
		c.fresh = false
		putWords(r, c.words[0], c.words[1], c.words[2])
	case 0x3682:
		putWords(r, 0xF896, 0x31CD, 0x3B07)
	default:
		return ErrNAK
	}
	return nil
}

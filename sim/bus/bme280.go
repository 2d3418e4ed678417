package bus

import (
	"encoding/binary"
	"time"
)

// Air returns the air around a chip now: degrees Celsius, pascal, percent of
// relative humidity. It is called from the goroutine that reads the chip.
type Air func() (celsius, pascal, percent float64)

// Registers of the BME280 that the chip itself looks at.
const (
	regCalibration = 0x88
	regH1          = 0xA1
	regID          = 0xD0
	regReset       = 0xE0
	regHumidityCal = 0xE1
	regCtrlHum     = 0xF2
	regStatus      = 0xF3
	regCtrlMeas    = 0xF4
	regConfig      = 0xF5
	regData        = 0xF7

	chipID    = 0x60
	bmp280ID  = 0x58
	resetWord = 0xB6
	measuring = 1 << 3
	copying   = 1 << 0 // of the calibration, after a reset

	startTime = 2 * time.Millisecond
)

// BME280 is a Bosch BME280: temperature, pressure and humidity in forced or normal
// mode. The filter and the standby time of normal mode are not modelled; normal
// mode measures at each read.
type BME280 struct {
	core
	air Air
	cal calibration
	id  byte

	regs    [256]byte
	pointer byte
	hum     byte      // ctrl_hum as it counts: latched by a write to ctrl_meas
	ready   time.Time // end of the start or of the measurement under way
}

// NewBME280 makes a chip at addr, which is 0x76 or 0x77 on a real one.
func NewBME280(addr uint16, air Air) *BME280 {
	c := &BME280{air: air, cal: sample280, id: chipID}
	c.begin(addr, c)
	return c
}

// NewBMP280 makes a BMP280 at addr, which is 0x76 or 0x77 on a real one: a BME280
// that does not measure humidity.
func NewBMP280(addr uint16, air Air) *BME280 {
	c := &BME280{air: air, cal: sample280, id: bmp280ID}
	c.begin(addr, c)
	return c
}

func (c *BME280) powerOn() {
	c.regs = [256]byte{regID: c.id, regH1: c.cal.h1}
	k := &c.cal
	for i, v := range []uint16{
		k.t1, uint16(k.t2), uint16(k.t3), k.p1, uint16(k.p2), uint16(k.p3), uint16(k.p4),
		uint16(k.p5), uint16(k.p6), uint16(k.p7), uint16(k.p8), uint16(k.p9),
	} {
		binary.LittleEndian.PutUint16(c.regs[regCalibration+2*i:], v)
	}
	binary.LittleEndian.PutUint16(c.regs[regHumidityCal:], uint16(k.h2))
	copy(c.regs[regHumidityCal+2:], []byte{
		k.h3, byte(k.h4 >> 4), byte(k.h4&0xF) | byte(k.h5&0xF)<<4, byte(k.h5 >> 4), byte(k.h6),
	})
	c.pointer, c.hum = 0, 0
	c.store(skipped20, skipped20, skipped16)
	c.ready = time.Now().Add(startTime)
	c.regs[regStatus] = copying
}

// store puts raw values into the data registers.
func (c *BME280) store(t, p, h int32) {
	copy(c.regs[regData:], []byte{
		byte(p >> 12), byte(p >> 4), byte(p << 4),
		byte(t >> 12), byte(t >> 4), byte(t << 4),
		byte(h >> 8), byte(h),
	})
}

// transact: writes are a register followed by its value, in pairs; a single byte
// sets the register to read from.
func (c *BME280) transact(w, r []byte) error {
	c.advance()
	c.write(w)
	for i := range r {
		r[i] = c.regs[c.pointer]
		c.pointer++
	}
	return nil
}

// advance finishes what has had its time.
func (c *BME280) advance() {
	normal := c.regs[regCtrlMeas]&3 == 3
	if c.regs[regStatus] == 0 && !normal || time.Now().Before(c.ready) {
		return
	}
	if normal || c.regs[regStatus]&measuring != 0 {
		c.convert()
	}
	c.regs[regStatus] = 0
}

func (c *BME280) convert() {
	celsius, pascal, percent := c.air()
	t, p, h := c.cal.adc(c.measure(0, celsius, 125), c.measure(1, pascal, 80000), c.measure(2, percent, 100))
	meas := c.regs[regCtrlMeas]
	if meas>>5 == 0 {
		t = skipped20
	}
	if meas>>2&7 == 0 {
		p = skipped20
	}
	if c.hum&7 == 0 {
		h = skipped16
	}
	c.store(t, p, h)
	if meas&3 != 3 {
		c.regs[regCtrlMeas] &^= 3 // forced mode falls asleep by itself
	}
}

func (c *BME280) write(w []byte) {
	if len(w) == 0 {
		return
	}
	c.pointer = w[0]
	for ; len(w) >= 2; w = w[2:] {
		c.set(w[0], w[1])
	}
}

func (c *BME280) set(reg, value byte) {
	switch reg {
	case regReset:
		if value == resetWord {
			c.powerOn()
		}
	case regCtrlHum:
		if c.id == chipID {
			c.regs[reg] = value
		}
	case regConfig:
		c.regs[reg] = value
	case regCtrlMeas:
		c.regs[reg] = value
		c.hum = c.regs[regCtrlHum]
		if mode := value & 3; mode == 1 || mode == 2 {
			c.regs[regStatus] |= measuring
			c.ready = time.Now().Add(c.duration())
		}
	}
}

// duration is the typical time of a measurement (data sheet, section 9.1).
func (c *BME280) duration() time.Duration {
	times := func(osrs byte) time.Duration {
		if osrs&7 == 0 {
			return 0
		}
		return time.Duration(1<<min(osrs&7-1, 4)) * 2 * time.Millisecond
	}
	meas := c.regs[regCtrlMeas]
	d := time.Millisecond + times(meas>>5)
	if p := times(meas >> 2); p > 0 {
		d += p + 500*time.Microsecond
	}
	if h := times(c.hum); h > 0 {
		d += h + 500*time.Microsecond
	}
	return d
}

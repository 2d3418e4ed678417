package bus

import "time"

// ADS1x15 is a Texas Instruments ADS1115 (data sheet SBAS444) or ADS1015 (SBAS473):
// four analogue inputs, one conversion at a time. The comparator and continuous
// conversions are not modelled. Its clock runs slow by the 10 % that the data sheet
// allows.
type ADS1x15 struct {
	core
	registers16
	volts func(input int) float64
	bits  int
	rates [8]int // conversions a second, by the bits that choose them
	ready time.Time
}

// NewADS1115 makes a chip of 16 bits at addr, which is 0x48 to 0x4b on a real one.
// volts returns the voltage at one of the inputs 0 to 3 against ground.
func NewADS1115(addr uint16, volts func(input int) float64) *ADS1x15 {
	c := &ADS1x15{volts: volts, bits: 16, rates: [8]int{8, 16, 32, 64, 128, 250, 475, 860}}
	c.begin(addr, c)
	return c
}

// NewADS1015 makes a chip of 12 bits at addr, which is 0x48 to 0x4b on a real one.
func NewADS1015(addr uint16, volts func(input int) float64) *ADS1x15 {
	c := &ADS1x15{volts: volts, bits: 12, rates: [8]int{128, 250, 490, 920, 1600, 2400, 3300, 3300}}
	c.begin(addr, c)
	return c
}

const (
	adsConversion = 0
	adsConfig     = 1
	adsIdle       = 0x8000
)

func (c *ADS1x15) powerOn() {
	c.registers16 = registers16{}
	c.regs[adsConfig] = 0x8583
	c.ready = time.Time{}
}

func (c *ADS1x15) transact(w, r []byte) error {
	c.access(w, r, c.advance, c.set)
	return nil
}

func (c *ADS1x15) set(reg byte, v uint16) {
	if reg != adsConfig {
		return
	}
	start := v&adsIdle != 0
	c.regs[adsConfig] = v &^ adsIdle
	if !start {
		c.regs[adsConfig] |= adsIdle
		return
	}
	rate := c.rates[v>>5&7]
	c.ready = time.Now().Add(time.Second*11/10/time.Duration(rate) + 25*time.Microsecond)
}

func (c *ADS1x15) advance() {
	if c.regs[adsConfig]&adsIdle != 0 || time.Now().Before(c.ready) {
		return
	}
	c.regs[adsConfig] |= adsIdle
	full := [8]float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256}[c.regs[adsConfig]>>9&7]
	v := c.measure(0, c.input(), 2*full)
	top := 1 << (c.bits - 1)
	c.regs[adsConversion] = uint16(counts(v, full/float64(top), -top, top-1) << (16 - c.bits))
}

// input is the voltage that the multiplexer lets through.
func (c *ADS1x15) input() float64 {
	mux := int(c.regs[adsConfig] >> 12 & 7)
	if mux >= 4 {
		return c.volts(mux - 4)
	}
	pair := [4][2]int{{0, 1}, {0, 3}, {1, 3}, {2, 3}}[mux]
	return c.volts(pair[0]) - c.volts(pair[1])
}

// INA219 is a Texas Instruments INA219 (data sheet SBOS448): the voltage of a supply
// and the current through a shunt. Triggered conversions are not modelled.
type INA219 struct {
	core
	registers16
	shunt       float64
	volts, amps Quantity
	next        time.Time
}

// NewINA219 makes a chip at addr, which is 0x40 to 0x4f on a real one, with a shunt
// of the given resistance in ohm.
func NewINA219(addr uint16, shunt float64, volts, amps Quantity) *INA219 {
	c := &INA219{shunt: shunt, volts: volts, amps: amps}
	c.begin(addr, c)
	return c
}

const (
	inaConfig = iota
	inaShunt
	inaBus
	inaPower
	inaCurrent
	inaCalibration
)

func (c *INA219) powerOn() {
	c.registers16 = registers16{}
	c.regs[inaConfig] = 0x399F
	c.next = time.Now().Add(c.conversion())
}

// conversion is how long one of both voltages takes.
func (c *INA219) conversion() time.Duration {
	one := func(bits uint16) time.Duration {
		if bits&8 == 0 {
			return [4]time.Duration{84, 148, 276, 532}[bits&3] * time.Microsecond
		}
		return 532 * time.Microsecond << (bits & 7)
	}
	return one(c.regs[inaConfig]>>7&15) + one(c.regs[inaConfig]>>3&15)
}

func (c *INA219) transact(w, r []byte) error {
	c.access(w, r, c.advance, c.set)
	return nil
}

func (c *INA219) set(reg byte, v uint16) {
	switch reg {
	case inaConfig:
		if v&0x8000 != 0 {
			c.powerOn()
			return
		}
		c.regs[reg] = v &^ 0x4000
		c.next = time.Now().Add(c.conversion())
	case inaCalibration:
		c.regs[reg] = v &^ 1
	}
}

func (c *INA219) advance() {
	now := time.Now()
	if now.Before(c.next) || c.regs[inaConfig]&7 != 7 {
		return
	}
	period := c.conversion()
	c.next = c.next.Add((now.Sub(c.next)/period + 1) * period)
	top := 4000 << (c.regs[inaConfig] >> 11 & 3) // 40 to 320 mV in steps of 10 µV
	shunt := counts(c.measure(0, c.amps(), 0.64/c.shunt)*c.shunt, 10e-6, -top, top)
	volts := counts(c.measure(1, c.volts(), 32), 4e-3, 0, 8000)
	c.regs[inaShunt] = uint16(shunt)
	c.regs[inaBus] = uint16(volts)<<3 | 2
	current := shunt * int(c.regs[inaCalibration]) / 4096
	c.regs[inaCurrent] = uint16(current)
	c.regs[inaPower] = uint16(current * volts / 5000)
}

// BH1750 is a Rohm BH1750FVI: light, in steps of 1/1.2 lx.
type BH1750 struct {
	core
	lux   Quantity
	on    bool
	mode  byte // of the measurement under way or, in a continuous one, always
	ready time.Time
	data  uint16
}

// NewBH1750 makes a chip at addr, which is 0x23 or 0x5c on a real one.
func NewBH1750(addr uint16, lux Quantity) *BH1750 {
	c := &BH1750{lux: lux}
	c.begin(addr, c)
	return c
}

func (c *BH1750) powerOn() { c.on, c.mode, c.data = false, 0, 0 }

func (c *BH1750) transact(w, r []byte) error {
	c.advance()
	for _, cmd := range w {
		c.command(cmd)
	}
	for i := range r {
		r[i] = byte(c.data >> (8 * (1 - i&1)))
	}
	return nil
}

func (c *BH1750) command(cmd byte) {
	switch cmd {
	case 0x00:
		c.on, c.mode = false, 0
	case 0x01:
		c.on = true
	case 0x07:
		if c.on {
			c.data = 0
		}
	case 0x10, 0x11, 0x13, 0x20, 0x21, 0x23:
		c.on, c.mode, c.ready = true, cmd, time.Now().Add(c.conversion(cmd))
	}
}

func (c *BH1750) conversion(mode byte) time.Duration {
	if mode&3 == 3 {
		return 16 * time.Millisecond
	}
	return 120 * time.Millisecond
}

func (c *BH1750) advance() {
	if c.mode == 0 || time.Now().Before(c.ready) {
		return
	}
	step := 1 / 1.2
	if c.mode&3 == 1 {
		step /= 2
	}
	c.data = uint16(counts(c.measure(0, c.lux(), 54612), step, 0, 65535))
	if c.mode&0x20 != 0 {
		c.on, c.mode = false, 0
		return
	}
	c.ready = time.Now().Add(c.conversion(c.mode))
}

var (
	_ Breakable = (*BME280)(nil)
	_ Breakable = (*TMP102)(nil)
	_ Breakable = (*LM75)(nil)
	_ Breakable = (*MCP9808)(nil)
	_ Breakable = (*AHT20)(nil)
	_ Breakable = (*SHT)(nil)
	_ Breakable = (*SCD4x)(nil)
	_ Breakable = (*ADS1x15)(nil)
	_ Breakable = (*INA219)(nil)
	_ Breakable = (*BH1750)(nil)
)

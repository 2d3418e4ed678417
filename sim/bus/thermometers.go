package bus

import "time"

// Registers that TMP102, LM75 and their kin share.
const (
	regTemperature = 0
	regSettings    = 1
	regLow         = 2
	regHigh        = 3
)

// TMP102 is a Texas Instruments TMP102 (data sheet SBOS397): a temperature in steps
// of 1/16 °C, converted again and again. The alert pin and one-shot conversions are
// not modelled.
type TMP102 struct {
	core
	registers16
	air  Air
	next time.Time // end of the conversion under way
}

// NewTMP102 makes a chip at addr, which is 0x48 to 0x4b on a real one.
func NewTMP102(addr uint16, air Air) *TMP102 {
	c := &TMP102{air: air}
	c.begin(addr, c)
	return c
}

const (
	tmp102PowerOn    = 0x60A0
	tmp102Conversion = 26 * time.Millisecond
)

func (c *TMP102) powerOn() {
	c.registers16 = registers16{}
	c.regs[regSettings] = tmp102PowerOn
	c.regs[regLow], c.regs[regHigh] = 0x4B00, 0x5000
	c.next = time.Now().Add(tmp102Conversion)
}

func (c *TMP102) transact(w, r []byte) error {
	c.access(w, r, c.advance, c.set)
	return nil
}

// advance ends the conversions that have had their time. Until the first one the
// register reads 0 °C, as the data sheet says.
func (c *TMP102) advance() {
	now := time.Now()
	if now.Before(c.next) || c.regs[regSettings]&0x0100 != 0 {
		return
	}
	period := [4]time.Duration{4 * time.Second, time.Second, 250 * time.Millisecond, 125 * time.Millisecond}[c.regs[regSettings]>>6&3]
	c.next = c.next.Add((now.Sub(c.next)/period + 1) * period)
	celsius, _, _ := c.air()
	if c.regs[regSettings]&0x0010 != 0 { // extended mode: 13 bits, and bit 0 set
		c.regs[regTemperature] = uint16(counts(c.measure(0, celsius, 165), 0.0625, -880, 2400))<<3 | 1
		return
	}
	c.regs[regTemperature] = uint16(counts(c.measure(0, celsius, 165), 0.0625, -2048, 2047)) << 4
}

func (c *TMP102) set(reg byte, v uint16) {
	switch reg {
	case regSettings: // the resolution bits cannot be written, the low bits read 0
		c.regs[reg] = v&0x9FD0 | 0x6000 | c.regs[reg]&0x0020
	case regLow, regHigh:
		c.regs[reg] = v & 0xFFF0
	}
}

// LM75 is an LM75 with nine bits, or with more when it is made to be a TMP75 or
// TMP105, whose settings choose the resolution.
type LM75 struct {
	core
	registers16
	air    Air
	chosen bool      // the resolution can be chosen
	next   time.Time // end of the conversion under way
}

// NewLM75 makes a chip at addr, which is 0x48 to 0x4f on a real one, with a
// resolution of 0.5 °C.
func NewLM75(addr uint16, air Air) *LM75 {
	c := &LM75{air: air}
	c.begin(addr, c)
	return c
}

// NewTMP105 makes a chip that is an LM75 with nine bits after power-on, and up to
// twelve when it is told.
func NewTMP105(addr uint16, air Air) *LM75 {
	c := &LM75{air: air, chosen: true}
	c.begin(addr, c)
	return c
}

func (c *LM75) powerOn() {
	c.registers16 = registers16{}
	c.regs[regLow], c.regs[regHigh] = 0x4B00, 0x5000
	c.next = time.Now().Add(c.conversion())
}

// bits is how many bits a conversion has.
func (c *LM75) bits() int {
	if !c.chosen {
		return 9
	}
	return 9 + int(c.regs[regSettings]>>13&3)
}

// conversion is how long one takes: 220 ms with twelve bits (TMP75), 100 ms in an
// LM75.
func (c *LM75) conversion() time.Duration {
	if !c.chosen {
		return 100 * time.Millisecond
	}
	return 27500 * time.Microsecond << (c.bits() - 9)
}

func (c *LM75) transact(w, r []byte) error {
	c.access(w, r, c.advance, c.set)
	return nil
}

func (c *LM75) advance() {
	now := time.Now()
	if now.Before(c.next) || c.regs[regSettings]&0x0100 != 0 {
		return
	}
	period := c.conversion()
	c.next = c.next.Add((now.Sub(c.next)/period + 1) * period)
	celsius, _, _ := c.air()
	step, top := 1/float64(int(1)<<(c.bits()-8)), 1<<(c.bits()-1)
	c.regs[regTemperature] = uint16(counts(c.measure(0, celsius, 180), step, -top, top-1)) << (16 - c.bits())
}

func (c *LM75) set(reg byte, v uint16) {
	switch reg {
	case regSettings: // one byte
		mask := uint16(0x1F00)
		if c.chosen {
			mask = 0x7F00
		}
		c.regs[reg] = v & mask
	case regLow, regHigh:
		c.regs[reg] = v & 0xFF80
	}
}

// MCP9808 is a Microchip MCP9808 (data sheet DS25095). Alerts and limits are not
// modelled.
type MCP9808 struct {
	core
	registers16
	air  Air
	next time.Time
}

// NewMCP9808 makes a chip at addr, which is 0x18 to 0x1f on a real one.
func NewMCP9808(addr uint16, air Air) *MCP9808 {
	c := &MCP9808{air: air}
	c.begin(addr, c)
	return c
}

const (
	mcpTemperature = 5
	mcpMaker       = 6
	mcpDevice      = 7
	mcpResolution  = 8
)

func (c *MCP9808) powerOn() {
	c.registers16 = registers16{}
	c.regs[mcpMaker], c.regs[mcpDevice], c.regs[mcpResolution] = 0x0054, 0x0400, 0x0300
	c.next = time.Now().Add(c.conversion())
}

// conversion is how long one takes: 30, 65, 130 or 250 ms.
func (c *MCP9808) conversion() time.Duration {
	return [4]time.Duration{30, 65, 130, 250}[c.regs[mcpResolution]>>8&3] * time.Millisecond
}

func (c *MCP9808) transact(w, r []byte) error {
	c.access(w, r, c.advance, c.set)
	return nil
}

func (c *MCP9808) advance() {
	now := time.Now()
	if now.Before(c.next) || c.regs[regSettings]&0x0100 != 0 {
		return
	}
	period := c.conversion()
	c.next = c.next.Add((now.Sub(c.next)/period + 1) * period)
	celsius, _, _ := c.air()
	coarse := 3 - c.regs[mcpResolution]>>8&3 // bits that the resolution leaves out
	n := counts(c.measure(0, celsius, 165), 0.0625*float64(int(1)<<coarse), -(4096>>coarse), 4095>>coarse) << coarse
	c.regs[mcpTemperature] = uint16(n) & 0x1FFF
}

func (c *MCP9808) set(reg byte, v uint16) {
	switch {
	case reg == mcpResolution:
		c.regs[reg] = v & 0x0300
	case reg >= regSettings && reg < mcpTemperature:
		c.regs[reg] = v
	}
}

package bus

// DS2482 is a Maxim DS2482-100 (data sheet 19-4930): a master for a 1-Wire bus, behind
// I²C. Its bus holds one DS18B20 (19-7487), which converts with twelve bits. Alarms, the
// parasitic supply, resolutions and overdrive are not modelled; a conversion takes no
// time. Unplugged, it is the master that is gone.
type DS2482 struct {
	core
	celsius Quantity
	rom     [8]byte

	pointer        byte // of what is read next
	status, config byte
	data           byte

	phase  wirePhase
	bit    int    // of a search, or the byte of an address
	answer []byte // that the thermometer sends
	raw    int16  // its last conversion, in 1/16 °C
}

// wirePhase is what the thermometer waits for.
type wirePhase int

const (
	wireReset    wirePhase = iota // nothing but a reset
	wireROM                       // which of them is meant
	wireSearch                    // the bits of a search
	wireMatch                     // the bytes of an address
	wireFunction                  // what to do
	wireAnswer                    // that its answer is read
	wireScratch                   // settings, which it ignores
)

const (
	dsStatus = 0xF0
	dsData   = 0xE1
	dsConfig = 0xC3

	dsPresence  = 0x02
	dsLevel     = 0x08
	dsWasReset  = 0x10
	dsFirstBit  = 0x20
	dsSecondBit = 0x40
	dsDirection = 0x80

	dsPowerOn = 85 * 16 // what the thermometer says before it has converted
)

// NewDS2482 makes a chip at addr, which is 0x18 to 0x1b on a real one, with the
// thermometer 28-060504030201.
func NewDS2482(addr uint16, celsius Quantity) *DS2482 {
	c := &DS2482{celsius: celsius, rom: [8]byte{0x28, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06}}
	c.rom[7] = crcMaxim(c.rom[:7])
	c.begin(addr, c)
	return c
}

func (c *DS2482) powerOn() {
	c.pointer, c.status, c.config = dsStatus, dsLevel|dsWasReset, 0
	c.phase, c.raw = wireReset, dsPowerOn
}

func (c *DS2482) transact(w, r []byte) error {
	if len(w) > 0 {
		arg := byte(0)
		if len(w) > 1 {
			arg = w[1]
		}
		c.command(w[0], arg)
	}
	for i := range r {
		switch c.pointer {
		case dsStatus:
			r[i] = c.status
		case dsConfig:
			r[i] = c.config
		default:
			r[i] = c.data
		}
	}
	return nil
}

// command does one command of the master.
func (c *DS2482) command(command, arg byte) {
	switch command {
	case 0xF0: // reset the master
		c.pointer, c.status, c.config = dsStatus, dsLevel|dsWasReset, 0
		return
	case 0xE1: // what to read
		c.pointer = arg
		return
	case 0xD2: // configure
		c.config, c.pointer = arg&0xF, dsConfig
		c.status &^= dsWasReset
		return
	}
	c.pointer = dsStatus
	switch command {
	case 0xB4: // reset the bus
		c.phase = wireROM
		c.status = dsPresence | c.status&dsLevel
	case 0xA5:
		c.send(arg)
	case 0x96:
		c.data = c.next()
	case 0x87: // one bit: a thermometer that has converted sends ones
		c.status |= dsFirstBit
	case 0x78:
		c.search()
	}
}

// search is one step of a search: two bits are read, one is written.
func (c *DS2482) search() {
	c.status &^= dsFirstBit | dsSecondBit | dsDirection
	if c.phase != wireSearch { // nobody answers
		c.status |= dsFirstBit | dsSecondBit
		return
	}
	if c.rom[c.bit/8]>>(c.bit%8)&1 == 1 {
		c.status |= dsFirstBit | dsDirection
	} else {
		c.status |= dsSecondBit
	}
	if c.bit++; c.bit == 64 {
		c.phase = wireFunction
	}
}

// send puts a byte on the 1-Wire bus.
func (c *DS2482) send(b byte) {
	switch c.phase {
	case wireROM:
		c.bit = 0
		switch b {
		case 0xF0:
			c.phase = wireSearch
		case 0x55:
			c.phase = wireMatch
		case 0xCC:
			c.phase = wireFunction
		default:
			c.phase = wireReset
		}
	case wireMatch:
		if b != c.rom[c.bit] {
			c.phase = wireReset // another one is meant
			return
		}
		if c.bit++; c.bit == len(c.rom) {
			c.phase = wireFunction
		}
	case wireFunction:
		c.function(b)
	}
}

// function does one command of the thermometer.
func (c *DS2482) function(command byte) {
	switch command {
	case 0xBE: // read the scratchpad
		c.answer, c.phase = []byte{byte(c.raw), byte(c.raw >> 8), 0x4B, 0x46, 0x7F, 0xFF, 0x0C, 0x10}, wireAnswer
		c.answer = append(c.answer, crcMaxim(c.answer))
	case 0x44: // convert
		c.raw = int16(counts(c.measure(0, c.celsius(), 180), 0.0625, -55*16, 125*16))
		c.answer, c.phase = nil, wireAnswer
	case 0xB4: // its supply: not parasitic
		c.answer, c.phase = nil, wireAnswer
	case 0x4E:
		c.phase = wireScratch
	}
}

// next is the next byte that the thermometer sends; ones when it has nothing to say.
func (c *DS2482) next() byte {
	if c.phase != wireAnswer || len(c.answer) == 0 {
		return 0xFF
	}
	b := c.answer[0]
	c.answer = c.answer[1:]
	return b
}

// crcMaxim is the checksum of 1-Wire chips: polynomial 0x31, bits reversed.
func crcMaxim(b []byte) byte {
	crc := byte(0)
	for _, v := range b {
		for range 8 {
			mix := (crc ^ v) & 1
			crc >>= 1
			if mix != 0 {
				crc ^= 0x8C
			}
			v >>= 1
		}
	}
	return crc
}

var _ Breakable = (*DS2482)(nil)

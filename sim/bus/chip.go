package bus

import (
	"math"
	"sync"
	"time"
)

// Quantity is one thing that a chip measures, as it is now. It is called from the
// goroutine that reads the chip.
type Quantity func() float64

// Breakable is a chip that can be made to misbehave. All chips of this package are.
type Breakable interface {
	Chip
	// SetFault makes the chip misbehave, or work again with [None].
	SetFault(f Fault)
	// PowerCycle takes the chip's power away for an instant: its settings are
	// lost, and nobody is told.
	PowerCycle()
}

// slowness is how long a [Slow] chip holds the clock in each transaction.
const slowness = 30 * time.Millisecond

// circuit is what tells one kind of chip from another. Its methods are called with
// the core's lock held.
type circuit interface {
	// powerOn sets the registers as they are after power-on.
	powerOn()
	// transact does one transaction of a chip that works: w is written, then r
	// is filled. An error is a chip that does not acknowledge.
	transact(w, r []byte) error
}

// core is what all chips have in common: an address, power, and faults.
type core struct {
	addr    uint16
	faults  faults
	circuit circuit

	mu     sync.Mutex // guards what follows, and the circuit
	since  time.Time  // when the fault began
	held   [4]float64 // what a frozen chip measures; NaN until it measures
	count  uint64     // of measurements and transactions, for noise
	broken Fault      // as measurements see it
}

// begin puts the chip at its address and switches it on.
func (c *core) begin(addr uint16, of circuit) {
	c.addr, c.circuit = addr, of
	c.hold()
	of.powerOn()
}

// hold forgets what a frozen chip measured.
func (c *core) hold() {
	for i := range c.held {
		c.held[i] = math.NaN()
	}
}

// Addr returns the chip's address.
func (c *core) Addr() uint16 { return c.addr }

// SetFault makes the chip misbehave, or work again with [None].
func (c *core) SetFault(f Fault) {
	was := c.faults.set(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken, c.since = f, time.Now()
	c.hold()
	if was == Unplugged && f != Unplugged {
		c.circuit.powerOn()
	}
}

// PowerCycle takes the chip's power away for an instant: its settings are lost, and
// nobody is told.
func (c *core) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.circuit.powerOn()
}

// Tx does one transaction.
func (c *core) Tx(w, r []byte) error {
	fault := c.faults.get()
	switch fault {
	case NAK, Unplugged:
		return ErrNAK
	case AllOnes, AllZeros:
		level := byte(0xFF)
		if fault == AllZeros {
			level = 0
		}
		for i := range r {
			r[i] = level
		}
		return nil
	case Slow:
		time.Sleep(slowness) //nolint:forbidigo // the chip holds the clock
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.circuit.transact(w, r); err != nil {
		return err
	}
	if fault == Corrupt && len(r) > 0 {
		bit := c.random() % uint64(8*len(r))
		r[bit/8] ^= 1 << (bit % 8)
	}
	return nil
}

// measure returns what the chip takes the i-th of its quantities for, v being the
// truth and span the range over which it measures.
func (c *core) measure(i int, v, span float64) float64 {
	switch c.broken {
	case Frozen:
		if math.IsNaN(c.held[i]) {
			c.held[i] = v
		}
		return c.held[i]
	case Noisy:
		return v + (float64(c.random()>>11)/(1<<53)-0.5)*span/2
	case Drifting:
		return v + span*time.Since(c.since).Hours()
	}
	return v
}

// random returns the next number of a sequence that is the same in every run
// (splitmix64).
func (c *core) random() uint64 {
	c.count++
	x := c.count * 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// counts returns v in whole steps, held between low and high.
func counts(v, step float64, low, high int) int {
	n := math.Round(v / step)
	return int(math.Max(float64(low), math.Min(float64(high), n)))
}

// registers16 are registers of 16 bits, big endian, behind a pointer that stays
// where it was: how all chips of Texas Instruments and Microchip here are read.
type registers16 struct {
	pointer byte
	regs    [16]uint16
}

// access does one transaction. update brings the registers up to date, set is called
// for the register that is written.
func (g *registers16) access(w, r []byte, update func(), set func(reg byte, v uint16)) {
	update()
	if len(w) > 0 {
		g.pointer = w[0] & 0xF
		switch {
		case len(w) >= 3:
			set(g.pointer, uint16(w[1])<<8|uint16(w[2]))
		case len(w) == 2: // a register of one byte
			set(g.pointer, uint16(w[1])<<8)
		}
	}
	v := g.regs[g.pointer]
	for i := range r {
		if i%2 == 0 {
			r[i] = byte(v >> 8)
		} else {
			r[i] = byte(v)
		}
	}
}

// crc8 is the checksum of Sensirion and Aosong: polynomial 0x31, initially 0xFF.
func crc8(b []byte) byte {
	crc := byte(0xFF)
	for _, x := range b {
		crc ^= x
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// putWords writes words as Sensirion's chips send them: two bytes, then their CRC.
func putWords(r []byte, words ...uint16) {
	for i, w := range words {
		three := [3]byte{byte(w >> 8), byte(w)}
		three[2] = crc8(three[:2])
		if 3*i < len(r) {
			copy(r[3*i:], three[:])
		}
	}
}

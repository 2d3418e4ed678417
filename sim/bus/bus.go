package bus

import (
	"fmt"
	"syscall"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// Chip is one device on a bus.
type Chip interface {
	// Addr is the chip's 7-bit address.
	Addr() uint16
	// Tx does one transaction: w is written first, then r is filled.
	Tx(w, r []byte) error
}

// ErrNAK is what a driver sees when nobody answers at an address: what Linux says.
var ErrNAK error = syscall.ENXIO

// byteTime is nine clock pulses at 100 kHz.
const byteTime = 90 * time.Microsecond

// Bus is a simulated I²C bus. It stays usable after Close, because several drivers
// may hold it.
type Bus struct{ chips map[uint16]Chip }

// New makes a bus of the given chips. Of two chips at one address the last answers.
func New(chips ...Chip) *Bus {
	b := &Bus{make(map[uint16]Chip, len(chips))}
	for _, c := range chips {
		b.chips[c.Addr()] = c
	}
	return b
}

// Chip returns the chip at addr, or nil.
func (b *Bus) Chip(addr uint16) Chip { return b.chips[addr] }

// String names the bus in errors.
func (b *Bus) String() string { return "simulated bus" }

// SetSpeed accepts any speed and changes nothing.
func (b *Bus) SetSpeed(physic.Frequency) error { return nil }

// Close does nothing.
func (b *Bus) Close() error { return nil }

// Open returns the bus itself, by any name: it has the form in which drivers are
// given a machine's buses.
func (b *Bus) Open(string) (i2c.BusCloser, error) { return b, nil }

// Tx does one transaction with the chip at addr.
func (b *Bus) Tx(addr uint16, w, r []byte) error {
	time.Sleep(time.Duration(len(w)+len(r)+2) * byteTime) //nolint:forbidigo // the time a bus takes
	c, ok := b.chips[addr]
	if !ok {
		return fmt.Errorf("address 0x%02x: %w", addr, ErrNAK)
	}
	return c.Tx(w, r)
}

var _ i2c.BusCloser = (*Bus)(nil)

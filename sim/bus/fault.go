package bus

import (
	"fmt"
	"sync"
)

// Fault is a way in which a chip, or the wire to it, misbehaves.
type Fault int

// The faults. The last four change what a chip measures, and leave what it says on
// the bus in order.
const (
	// None: the chip works.
	None Fault = iota
	// NAK: the chip does not answer for now; it keeps its registers.
	NAK
	// AllOnes: the data line is never pulled down. Reads give 0xFF, writes go
	// nowhere, and the bus reports no error.
	AllOnes
	// Stuck: a transaction does not return until the fault is cleared, as a
	// system call on a bus that hangs.
	Stuck
	// Unplugged: no answer, and when the chip comes back its registers are as
	// after power-on.
	Unplugged
	// AllZeros: reads give 0x00, writes go nowhere, and the bus reports no error.
	AllZeros
	// Corrupt: one bit of what is read is wrong, another one each time.
	Corrupt
	// Slow: the chip holds the clock for 30 ms in each transaction.
	Slow
	// Frozen: the chip measures what it measured when the fault began.
	Frozen
	// Noisy: the chip measures up to a quarter of its range too much or too little.
	Noisy
	// Drifting: what the chip measures rises by its whole range within an hour.
	Drifting
)

var faultNames = [...]string{
	"none", "nak", "all-ones", "stuck", "unplugged", "all-zeros", "corrupt", "slow", "frozen", "noisy", "drifting",
}

// Faults lists all faults, [None] first.
func Faults() []Fault {
	all := make([]Fault, len(faultNames))
	for i := range all {
		all[i] = Fault(i)
	}
	return all
}

// String returns the name used in logs and scenarios.
func (f Fault) String() string {
	if f >= 0 && int(f) < len(faultNames) {
		return faultNames[f]
	}
	return fmt.Sprintf("fault(%d)", int(f))
}

// faults is the fault of one chip.
type faults struct {
	mu      sync.Mutex
	current Fault
	changed chan struct{} // closed when current changes; nil while nobody waits
}

// set changes the fault and returns the one before.
func (f *faults) set(to Fault) (was Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, f.current = f.current, to
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
	return was
}

// get waits while the chip is stuck and returns the fault.
func (f *faults) get() Fault {
	for {
		f.mu.Lock()
		current := f.current
		if current != Stuck {
			f.mu.Unlock()
			return current
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		<-changed
	}
}

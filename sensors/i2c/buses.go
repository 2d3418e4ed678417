package i2c

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// errBusHeld is the error of a transaction that could not begin because another one
// has not come to its end.
var errBusHeld = errors.New("the bus is held")

// Buses opens each bus once and shares it among the sensors on it: one transaction
// at a time, first come, first served, and one group of transactions at a time with
// each chip. A transaction that hangs in the kernel keeps one goroutine only; the
// others wait for their turn no longer than their deadline. Buses is safe for
// concurrent use.
type Buses struct {
	open func(name string) (i2c.BusCloser, error)

	mu    sync.Mutex
	buses map[string]*sharedBus
}

// NewBuses shares buses that open opens, such as [OpenBus].
func NewBuses(open func(name string) (i2c.BusCloser, error)) *Buses {
	return &Buses{open: open, buses: map[string]*sharedBus{}}
}

// Open returns a handle to a bus, which is opened if nobody has it open. A handle
// must be closed; the bus is when its last handle is.
func (b *Buses) Open(name string) (i2c.BusCloser, error) {
	key := name
	if n, ok := findBus(name); ok { // of two names for one bus, one may be a link
		key = strconv.Itoa(n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.buses[key]
	if s == nil {
		bus, err := b.open(name)
		if err != nil {
			return nil, err
		}
		s = &sharedBus{bus: bus, turn: make(chan struct{}, 1), chips: map[uint16]chan struct{}{}}
		b.buses[key] = s
	}
	s.handles++
	return &handle{buses: b, key: key, shared: s}, nil
}

// sharedBus is an open bus.
type sharedBus struct {
	bus     i2c.BusCloser
	handles int // guarded by Buses.mu

	turn chan struct{} // holds one while a transaction is under way

	mu    sync.Mutex
	chips map[uint16]chan struct{} // hold one while a group is under way
	addr  uint16                   // of the transaction under way
	since time.Time
}

// chip returns the semaphore of the groups with one chip.
func (s *sharedBus) chip(addr uint16) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.chips[addr]
	if c == nil {
		c = make(chan struct{}, 1)
		s.chips[addr] = c
	}
	return c
}

// note remembers the transaction that begins.
func (s *sharedBus) note(addr uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr, s.since = addr, time.Now()
}

// held says who holds the bus.
func (s *sharedBus) held(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("%w: a transaction with 0x%02x has not returned for %s: %w",
		errBusHeld, s.addr, time.Since(s.since).Round(time.Millisecond), err)
}

// handle is one sensor's share of a bus.
type handle struct {
	buses  *Buses
	key    string
	shared *sharedBus
	closed bool // guarded by Buses.mu
}

func (h *handle) String() string { return h.shared.bus.String() }

func (h *handle) SetSpeed(f physic.Frequency) error { return h.shared.bus.SetSpeed(f) }

// Tx waits for its turn for as long as it takes.
func (h *handle) Tx(addr uint16, w, r []byte) error {
	return h.txContext(context.Background(), addr, w, r)
}

// txContext does a transaction, if its turn comes before ctx ends.
func (h *handle) txContext(ctx context.Context, addr uint16, w, r []byte) error {
	s := h.shared
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return s.held(ctx.Err())
	}
	defer func() { <-s.turn }()
	s.note(addr)
	return s.bus.Tx(addr, w, r)
}

// begin begins a group of transactions with one chip, if its turn comes before ctx
// ends. end must follow.
func (h *handle) begin(ctx context.Context, addr uint16) error {
	select {
	case h.shared.chip(addr) <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w by another sensor at this address: %w", errBusHeld, ctx.Err())
	}
}

func (h *handle) end(addr uint16) { <-h.shared.chip(addr) }

// Close gives the share back, and closes the bus when nobody else has it.
func (h *handle) Close() error {
	if !h.giveBack() {
		return nil
	}
	// Not under the lock: periph's Close waits for a transaction that hangs, and the
	// other buses must not wait with it.
	return h.shared.bus.Close()
}

// giveBack reports whether the handle was the last one.
func (h *handle) giveBack() bool {
	h.buses.mu.Lock()
	defer h.buses.mu.Unlock()
	if h.closed {
		return false
	}
	h.closed = true
	if h.shared.handles--; h.shared.handles > 0 {
		return false
	}
	delete(h.buses.buses, h.key)
	return true
}

package i2c

import (
	"context"
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

const (
	// maxTransactions bounds one sample. A BME280 needs three and some polls; at
	// 400 kHz a poll takes about 100 µs, and the longest measurement 113 ms.
	maxTransactions = 5000
	// maxSilent bounds how often a sample may read nothing but 0xFF, or nothing
	// but 0x00, from its first transaction on: nobody is there, and the others on
	// the bus have better things to do.
	maxSilent = 50
	// maxWait bounds each wait for a chip.
	maxWait = 2 * time.Second
)

var (
	errPolling   = errors.New("the chip does not finish its measurement")
	errSilent    = errors.New("the chip sends nothing")
	errChecksum  = errors.New("wrong checksum")
	errOtherChip = errors.New("not the chip that is expected")
	// errLost is returned by a chip that has lost its settings: it is set up again
	// within the same sample.
	errLost = errors.New("the chip has lost its settings")
)

// guard is a bus whose transactions fail once the sample they belong to is over.
// Once one has failed, the others of the sample fail too. It is used by one
// goroutine, and allocates nothing while all is well.
type guard struct {
	bus    i2c.Bus
	shared *handle // bus, if it is one
	addr   uint16
	held   bool

	ctx         context.Context //nolint:containedctx // of the sample under way; drivers of periph pass none on
	left        int             // transactions it may still make
	err         error           // of its first failed transaction
	ones, zeros bool            // all that it has read so far is 0xFF, or 0x00
	reads       int

	timer *time.Timer
	w     [8]byte
	r     [16]byte
}

func newGuard(bus i2c.Bus, addr uint16) guard {
	shared, _ := bus.(*handle)
	return guard{bus: bus, shared: shared, addr: addr}
}

// begin starts a sample that lasts as long as ctx. end must follow.
func (g *guard) begin(ctx context.Context) {
	g.ctx, g.left, g.err, g.ones, g.zeros, g.reads = ctx, maxTransactions, nil, true, true, 0
	if g.shared == nil {
		return
	}
	g.err = g.shared.begin(ctx, g.addr)
	g.held = g.err == nil
}

// end ends the sample.
func (g *guard) end() {
	if g.held {
		g.shared.end(g.addr)
	}
	g.held, g.ctx = false, nil
}

// Tx passes one transaction on.
func (g *guard) Tx(addr uint16, w, r []byte) error {
	if g.err == nil {
		g.err = g.refuse()
	}
	if g.err != nil {
		return g.err
	}
	g.left--
	if g.shared != nil {
		g.err = withErrno(g.shared.txContext(g.ctx, addr, w, r))
	} else {
		g.err = withErrno(g.bus.Tx(addr, w, r))
	}
	if g.err != nil {
		return g.err
	}
	for _, b := range r {
		g.ones, g.zeros = g.ones && b == 0xFF, g.zeros && b == 0
	}
	if len(r) > 0 {
		g.reads++
	}
	return nil
}

// refuse says why there is to be no further transaction, or nil.
func (g *guard) refuse() error {
	if g.left == 0 {
		return fmt.Errorf("%w after %d transactions", errPolling, maxTransactions)
	}
	if g.reads >= maxSilent && (g.ones || g.zeros) {
		return errSilent
	}
	if g.ctx == nil {
		return errors.New("a transaction outside a sample")
	}
	if err := g.ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", errPolling, err)
	}
	return nil
}

// command writes w to the chip and then reads n bytes, at most 16, which are good
// until the next call.
func (g *guard) command(n int, w ...byte) ([]byte, error) {
	m := copy(g.w[:], w)
	r := g.r[:n]
	if err := g.Tx(g.addr, g.w[:m], r); err != nil {
		return nil, err
	}
	return r, nil
}

// write writes w to the chip.
func (g *guard) write(w ...byte) error {
	_, err := g.command(0, w...)
	return err
}

// try writes w to a chip that need not acknowledge it. Nobody at the address is an
// error that the sample survives.
func (g *guard) try(w ...byte) error {
	_, err := g.command(0, w...)
	if err != nil && isNobody(err) {
		g.err = nil
	}
	return err
}

// word reads the register of 16 bits, big endian, at reg.
func (g *guard) word(reg byte) (uint16, error) {
	r, err := g.command(2, reg)
	if err != nil {
		return 0, err
	}
	return uint16(r[0])<<8 | uint16(r[1]), nil
}

// putWord writes a register of 16 bits, big endian.
func (g *guard) putWord(reg byte, v uint16) error { return g.write(reg, byte(v>>8), byte(v)) }

// wait gives the chip time, for as long as the sample lasts.
func (g *guard) wait(d time.Duration) error {
	if g.err != nil {
		return g.err
	}
	d = min(d, maxWait)
	if g.timer == nil {
		g.timer = time.NewTimer(d)
	} else {
		g.timer.Reset(d)
	}
	select {
	case <-g.timer.C:
		return nil
	case <-g.ctx.Done():
		g.err = fmt.Errorf("%w: %w", errPolling, g.ctx.Err())
		return g.err
	}
}

// cause returns the bus's own error where there is one, which err hides: periph
// formats errors with %v. It says what the bus looks like when nobody drives it.
func (g *guard) cause(err error) error {
	switch {
	case g.err != nil && !errors.Is(g.err, errSilent) && !errors.Is(g.err, errPolling):
		return g.err
	case g.err != nil:
		err = g.err
	}
	switch {
	case g.reads > 0 && g.ones:
		return fmt.Errorf("the bus reads 0xff: %w", silenced(err))
	case g.reads > 0 && g.zeros:
		return fmt.Errorf("the bus reads 0x00: %w", silenced(err))
	}
	return err
}

// silenced is err and [errSilent].
func silenced(err error) error {
	if errors.Is(err, errSilent) {
		return err
	}
	return &silentError{err}
}

// silentError is an error of a chip that says nothing.
type silentError struct{ error }

func (e *silentError) Unwrap() []error { return []error{e.error, errSilent} }

// String names the bus.
func (g *guard) String() string { return g.bus.String() }

// SetSpeed is refused: it would change the speed for everybody on the bus.
func (g *guard) SetSpeed(physic.Frequency) error {
	return errors.New("the speed of a shared bus is not a sensor's to set")
}

var _ i2c.Bus = (*guard)(nil)

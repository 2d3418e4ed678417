package i2c

import (
	"context"
	"errors"
	"fmt"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// maxTransactions bounds one sample. A BME280 needs three and some polls; at
// 400 kHz a poll takes about 100 µs, and the longest measurement 113 ms.
const maxTransactions = 5000

// errPolling ends a driver that polls without end.
var errPolling = errors.New("the chip does not finish its measurement")

// guard is a bus whose transactions fail once the sample they belong to is over.
// Once one has failed, the others of the sample fail too.
type guard struct {
	bus     i2c.Bus
	expired func() error // of the sample under way
	left    int          // transactions it may still make
	err     error        // of its first failed transaction
	silent  bool         // all that it has read so far is 0xFF
}

// begin starts a sample that lasts as long as ctx.
func (g *guard) begin(ctx context.Context) {
	g.expired, g.left, g.err, g.silent = ctx.Err, maxTransactions, nil, true
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
	if g.err = g.bus.Tx(addr, w, r); g.err != nil {
		return g.err
	}
	for _, b := range r {
		g.silent = g.silent && b == 0xFF
	}
	return nil
}

// refuse says why there is to be no further transaction, or nil.
func (g *guard) refuse() error {
	if g.left == 0 {
		return fmt.Errorf("%w after %d transactions", errPolling, maxTransactions)
	}
	if err := g.expired(); err != nil {
		return fmt.Errorf("%w: %w", errPolling, err)
	}
	return nil
}

// cause returns the bus's own error where there is one, which err hides: periph
// formats errors with %v.
func (g *guard) cause(err error) error {
	if g.err != nil {
		return g.err
	}
	return err
}

// String names the bus.
func (g *guard) String() string { return g.bus.String() }

// SetSpeed is refused: it would change the speed for everybody on the bus.
func (g *guard) SetSpeed(physic.Frequency) error {
	return errors.New("the speed of a shared bus is not a sensor's to set")
}

var _ i2c.Bus = (*guard)(nil)

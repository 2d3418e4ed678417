package modbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"sync"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/edgeagent/edgeagent"
)

// client is what a connection can do; the library's is the real one.
type client interface {
	registers(unit uint8, table string, first, count uint16) ([]uint16, error)
	bits(unit uint8, table string, first, count uint16) ([]bool, error)
	close() error
}

// dialer opens a connection.
type dialer func(target string, c *Config) (client, error)

// pool hands out the buses, one for each target.
type pool struct {
	dial dialer // nil: the library's

	mu    sync.Mutex // guards buses, which are as many as the configuration names
	buses map[string]*bus
}

func newPool(d dialer) *pool { return &pool{dial: d, buses: map[string]*bus{}} }

// bus returns the bus of a target. The first sensor that names it decides about speed
// and timeout of the line.
func (p *pool) bus(target string, c *Config) *bus {
	p.mu.Lock()
	b := p.buses[target]
	if b == nil {
		b = &bus{target: target, cfg: c, dial: p.dial, turn: make(chan struct{}, 1)}
		p.buses[target] = b
	}
	p.mu.Unlock()
	b.turn <- struct{}{}
	b.users++
	<-b.turn
	return b
}

// release closes the connection with its last user. Whoever calls it has no turn.
func (b *bus) release() error {
	b.turn <- struct{}{} // at most as long as one request or one attempt to connect
	defer func() { <-b.turn }()
	b.users--
	if b.users > 0 {
		return nil
	}
	b.dialing.Wait() // it has given the turn back and is about to end
	return b.hangUp()
}

// Bounds of the wait after a connection that could not be opened.
const (
	redialBase = time.Second
	redialCap  = time.Minute
)

// bus is a connection that several sensors share.
type bus struct {
	target string
	cfg    *Config
	dial   dialer
	turn   chan struct{} // holds a token while somebody talks; guards what follows
	users  int
	// dialing waits for the attempt to connect that outlived its sample.
	dialing sync.WaitGroup

	conn    client
	redial  time.Duration
	nextTry time.Time
	lastErr error
}

// do runs f on an open connection while nobody else talks. An error of the line closes
// the connection.
func (b *bus) do(ctx context.Context, f func(c client) error) error {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the bus %s: %w", b.target, ctx.Err())
	}
	if ctx.Err() != nil {
		<-b.turn
		return ctx.Err()
	}
	if mine, err := b.open(ctx); err != nil {
		if mine {
			<-b.turn
		}
		return err
	}
	defer func() { <-b.turn }()
	err := f(b.conn)
	if err != nil && !isAnswer(err) {
		return errors.Join(err, b.hangUp())
	}
	return err
}

// open dials if need be. While it backs off, it repeats the last error. The library
// cannot be told to give up a connection that does not come about; when ctx ends
// first, the attempt goes on, at most 5 s, and the turn is no longer the caller's.
func (b *bus) open(ctx context.Context) (mine bool, err error) {
	if b.conn != nil {
		return true, nil
	}
	if now := time.Now(); now.Before(b.nextTry) {
		return true, fmt.Errorf("%w (tried again in %s)", b.lastErr, b.nextTry.Sub(now).Round(time.Second))
	}
	result := make(chan error)
	b.dialing.Go(func() {
		err := b.connect()
		select {
		case result <- err:
		case <-ctx.Done():
			<-b.turn
		}
	})
	select {
	case err := <-result:
		return true, err
	case <-ctx.Done():
		return false, fmt.Errorf("open %s: %w", b.target, ctx.Err())
	}
}

func (b *bus) connect() error {
	d := b.dial
	if d == nil {
		d = dial
	}
	conn, err := d(b.target, b.cfg)
	if err == nil {
		b.conn, b.redial = conn, 0
		return nil
	}
	b.redial = min(max(2*b.redial, redialBase), redialCap)
	b.nextTry = time.Now().Add(b.redial)
	b.lastErr = edgeagent.WithHint(fmt.Errorf("open %s: %w", b.target, err), openHint(err))
	return b.lastErr
}

func (b *bus) hangUp() error {
	if b.conn == nil {
		return nil
	}
	conn := b.conn
	b.conn = nil
	return conn.close()
}

func openHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "add the user to the group dialout"
	case errors.Is(err, fs.ErrNotExist):
		return "the serial adapter is not there: look for it in /dev/serial/by-id, whose names are stable"
	}
	return "check the key url, and that the device allows another connection: many have one only"
}

// isAnswer reports whether the device itself said no: the line is well then.
func isAnswer(err error) bool {
	for _, e := range []error{
		modbus.ErrIllegalFunction, modbus.ErrIllegalDataAddress, modbus.ErrIllegalDataValue, modbus.ErrServerDeviceFailure,
		modbus.ErrAcknowledge, modbus.ErrServerDeviceBusy, modbus.ErrMemoryParityError,
		modbus.ErrGWPathUnavailable, modbus.ErrGWTargetFailedToRespond,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// conn is the library's client.
type conn struct{ c *modbus.ModbusClient }

func dial(target string, c *Config) (client, error) {
	parity := map[string]uint{"even": modbus.PARITY_EVEN, "odd": modbus.PARITY_ODD}[c.Parity]
	mc, err := modbus.NewClient(&modbus.ClientConfiguration{
		URL: target, Speed: c.Speed, DataBits: 8, Parity: parity, StopBits: c.StopBits,
		Timeout: c.RequestTimeout, Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return nil, err
	}
	if err := mc.Open(); err != nil {
		return nil, err
	}
	return &conn{mc}, nil
}

func (c *conn) registers(unit uint8, table string, first, count uint16) ([]uint16, error) {
	if err := c.c.SetUnitId(unit); err != nil {
		return nil, err
	}
	kind := modbus.HOLDING_REGISTER
	if table == "input" {
		kind = modbus.INPUT_REGISTER
	}
	return c.c.ReadRegisters(first, count, kind)
}

func (c *conn) bits(unit uint8, table string, first, count uint16) ([]bool, error) {
	if err := c.c.SetUnitId(unit); err != nil {
		return nil, err
	}
	if table == "coil" {
		return c.c.ReadCoils(first, count)
	}
	return c.c.ReadDiscreteInputs(first, count)
}

func (c *conn) close() error { return c.c.Close() }

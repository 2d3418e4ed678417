package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
	"github.com/edgeagent/edgeagent/sync/wire"
)

// destination runs the uplink of one configured destination. An uplink runs once;
// when it has failed, the next start makes a fresh one, which takes up the cursor
// where it stands in the buffer. One that cannot be made leaves the others alone:
// it is degraded, and tried again like any part that fails.
type destination struct {
	cfg  uplink.Config // with defaults
	make func() (*uplink.Uplink, error)

	mu      sync.Mutex     // guards what follows
	current *uplink.Uplink // nil until the first was made
}

func (a *Agent) newDestination(b *buffer.Buffer, cfg uplink.Config) *destination {
	cfg = cfg.WithDefaults()
	return &destination{cfg: cfg, make: func() (*uplink.Uplink, error) { return a.newUplink(b, cfg) }}
}

func (a *Agent) newUplink(b *buffer.Buffer, cfg uplink.Config) (*uplink.Uplink, error) {
	log, err := newBufferLog(b, cfg.Name)
	if err != nil {
		return nil, err
	}
	transport, wire, err := a.newTransport(cfg)
	if err != nil {
		return nil, err
	}
	o := uplink.Options{
		Memory: a.memoryOf(cfg.Name), Wire: wire, Hold: a.holds,
		Clock: a.clock, Logger: a.logger, Device: a.cfg.Device.ID,
		OnRewind: func(x uplink.Rewind) { a.rewinds.proved(cfg.Name, x) },
	}
	if cfg.Format != uplink.FormatBlock {
		if o.Format, err = newFormat(cfg); err != nil {
			return nil, err
		}
	}
	return uplink.New(cfg, log, transport, o)
}

// newFormat returns the encoder of a text destination.
func newFormat(cfg uplink.Config) (uplink.Format, error) {
	f, err := wire.New(cfg.Format)
	if err != nil || cfg.Compression == uplink.NoCompression {
		return f, err
	}
	return wire.Compress(f, string(cfg.Compression))
}

// newTransport returns the links of a destination, which stand in for one another, and
// what counts the bytes on them.
func (a *Agent) newTransport(cfg uplink.Config) (uplink.Transport, func() uint64, error) {
	if len(cfg.Links) == 0 {
		return nil, nil, edgeagent.WithHint(errors.New("no links"), `give the destination "links: [{url: …}]"`)
	}
	meter := &meter{dial: a.opts.Dial}
	links := make([]uplink.Transport, len(cfg.Links))
	for i, l := range cfg.Links {
		if uplink.IsCoAP(l.URL) {
			t, err := a.newCoAP(cfg, l, meter.DialContext)
			if err != nil {
				return nil, nil, err
			}
			links[i] = t
			continue
		}
		t, err := mqtt.New(l, mqtt.Options{
			Tenant: a.cfg.Device.Tenant, Device: a.cfg.Device.ID,
			Acks: cfg.Ack == uplink.AckEndToEnd, NeedReasons: cfg.Ack == uplink.AckReason, Dial: meter.DialContext, Logger: a.logger,
			Dir: a.cfg.Dir, Now: a.certificateTime,
		})
		if err != nil {
			return nil, nil, err
		}
		links[i] = t
	}
	if len(links) == 1 {
		return links[0], meter.bytes.Load, nil
	}
	return uplink.NewFailover(links, a.clock), meter.bytes.Load, nil
}

// certificateTime is what certificates are held against: a clock that was never set
// is later than the program at least.
func (a *Agent) certificateTime() time.Time {
	if now := a.clock.Wall(); now.After(a.opts.Built) {
		return now
	}
	return a.opts.Built
}

// Run makes an uplink and runs it until ctx ends.
func (d *destination) Run(ctx context.Context) error {
	u, err := d.make()
	if err != nil {
		return fmt.Errorf("make uplink: %w", err)
	}
	d.mu.Lock()
	d.current = u
	d.mu.Unlock()
	return u.Run(ctx)
}

// uplink returns the uplink of now, nil while there is none.
func (d *destination) uplink() *uplink.Uplink {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// flush waits until everything that is stored now is confirmed, or ctx ends.
func (d *destination) flush(ctx context.Context) error {
	if u := d.uplink(); u != nil {
		return u.Flush(ctx)
	}
	return errors.New("there is no uplink")
}

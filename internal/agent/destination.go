package agent

import (
	"context"
	"fmt"
	"sync"

	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
	"github.com/edgeagent/edgeagent/sync/wire"
)

// destination runs the uplink of one configured destination. An uplink runs once;
// when it has failed, the next start makes a fresh one, which takes up the cursor
// where it stands in the buffer.
type destination struct {
	cfg  uplink.Config
	make func() (*uplink.Uplink, error)

	mu      sync.Mutex // guards what follows
	current *uplink.Uplink
	used    bool // current has been run
}

// newDestination makes the first uplink, so that mistakes are found before
// anything runs.
func (a *Agent) newDestination(b *buffer.Buffer, cfg uplink.Config) (*destination, error) {
	d := &destination{cfg: cfg.WithDefaults(), make: func() (*uplink.Uplink, error) { return a.newUplink(b, cfg.WithDefaults()) }}
	var err error
	if d.current, err = d.make(); err != nil {
		return nil, fmt.Errorf("destination %s: %w", cfg.Name, err)
	}
	return d, nil
}

func (a *Agent) newUplink(b *buffer.Buffer, cfg uplink.Config) (*uplink.Uplink, error) {
	log, err := newBufferLog(b, cfg.Name)
	if err != nil {
		return nil, err
	}
	transport, err := mqtt.New(cfg.Links[0], mqtt.Options{
		Tenant: a.cfg.Device.Tenant, Device: a.cfg.Device.ID,
		Acks: cfg.Ack == uplink.AckEndToEnd, Dial: a.opts.Dial, Logger: a.logger,
	})
	if err != nil {
		return nil, err
	}
	o := uplink.Options{Clock: a.clock, Logger: a.logger, Device: a.cfg.Device.ID}
	if cfg.Format != uplink.FormatBlock {
		if o.Format, err = wire.New(cfg.Format); err != nil {
			return nil, err
		}
	}
	return uplink.New(cfg, log, transport, o)
}

// Run runs the uplink until ctx ends.
func (d *destination) Run(ctx context.Context) error {
	u, err := d.next()
	if err != nil {
		return err
	}
	return u.Run(ctx)
}

func (d *destination) next() (*uplink.Uplink, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used {
		u, err := d.make()
		if err != nil {
			return nil, err
		}
		d.current = u
	}
	d.used = true
	return d.current, nil
}

// uplink returns the uplink of now.
func (d *destination) uplink() *uplink.Uplink {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

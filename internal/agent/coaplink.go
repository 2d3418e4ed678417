package agent

import (
	"github.com/edgeagent/edgeagent/sync/coap"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// newCoAP returns one link of a destination that speaks CoAP.
func (a *Agent) newCoAP(cfg uplink.Config, l uplink.LinkConfig, dial coap.DialFunc) (uplink.Transport, error) {
	return coap.New(l, coap.Options{
		Tenant: a.cfg.Device.Tenant, Device: a.cfg.Device.ID,
		Acks: cfg.Ack == uplink.AckEndToEnd, Dial: dial, Logger: a.logger,
		Dir: a.cfg.Dir, Now: a.certificateTime,
	})
}

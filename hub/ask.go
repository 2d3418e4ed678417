package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// ErrUnknownDevice is what [Hub.Ask] wraps for a device that the hub has never heard.
var ErrUnknownDevice = errors.New("no such device")

// Ask makes the next acks to a device ask for everything that is missing, beginning at
// once and whatever [Options.Replay] says, until it is there or the device has named it
// as lost. With all, also for numbers that were given before the hub first heard of
// their stream. It returns how many are missing. It works through every Run of the hub.
func (h *Hub) Ask(tenant, device string, all bool) (missing uint64, err error) {
	policy := ReplayNew
	if all {
		policy = ReplayAll
	}
	h.mu.Lock()
	dev := h.devices[deviceKey{tenant, device}]
	if dev == nil {
		h.mu.Unlock()
		return 0, fmt.Errorf("%w: %s of tenant %s", ErrUnknownDevice, device, tenant)
	}
	var epochs []edgeagent.Epoch
	for _, ep := range dev.epochs {
		n := uint64(0)
		for _, s := range ep.streams {
			if s != nil {
				// What is missing now has had its time: somebody says so.
				s.time.ripe = max(s.time.ripe, max(s.said.next, s.top()+1))
				n += total(holes(s, s.time.ripe, policy))
			}
		}
		if missing += n; n > 0 {
			ep.demand, ep.request = policy, request{}
			ep.demanded = true
			epochs = append(epochs, ep.id)
		}
	}
	dev.asked = time.Time{}
	ackers := make([]*acker, 0, len(h.runs))
	for a := range h.runs {
		ackers = append(ackers, a)
	}
	h.mu.Unlock()
	for _, a := range ackers {
		a.touch(dev, epochs, 0)
	}
	return missing, nil
}

// policy returns what a device is asked for of an epoch.
func (h *Hub) policy(ep *epoch) ReplayPolicy {
	if ep.demanded {
		return ep.demand
	}
	return h.opts.Replay
}

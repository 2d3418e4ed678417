package mqtt

import (
	"errors"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// settledFor is how long a server that spoke only 3.1.1 is not asked for 5 again.
const settledFor = time.Hour

// tongue chooses the version of the protocol for one server: 5, and 3.1.1 where the
// server does not speak it, which is remembered for an hour.
type tongue struct {
	fixed string // "3.1.1", "5", or "" to find out
	need  bool   // only 5 will do

	mu    sync.Mutex
	until time.Time // 3.1.1 is spoken until then
}

// newTongue reads the configured protocol. need says why only 5 will do, nil if it is
// not so.
func newTongue(protocol string, need error) (*tongue, error) {
	t := &tongue{fixed: protocol, need: need != nil}
	switch protocol {
	case "", uplink.ProtocolAuto:
		t.fixed = ""
	case uplink.ProtocolMQTT3:
		if need != nil {
			return nil, need
		}
	case uplink.ProtocolMQTT5:
	default:
		return nil, edgeagent.WithHint(errors.New("unknown protocol "+protocol), `write destinations[].links[].protocol: auto, "3.1.1" or "5"`)
	}
	return t, nil
}

// five reports whether a session at now tries MQTT 5 first.
func (t *tongue) five(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fixed == uplink.ProtocolMQTT5 || t.need || t.fixed == "" && !now.Before(t.until)
}

// fallBack reports whether a session in MQTT 5 that ended with err is worth another
// try in 3.1.1.
func (t *tongue) fallBack(err error) bool {
	_, version := errors.AsType[*versionError](err)
	return version && t.fixed == "" && !t.need
}

// settle notes that the server answered in 3.1.1 at now, after it did not in 5.
func (t *tongue) settle(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = now.Add(settledFor)
}

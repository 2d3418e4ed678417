package agent

import (
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// UplinkLog shows a buffer to an uplink as the log of a registered destination, as the
// agent does, for programs that have a buffer and an uplink and no agent.
func UplinkLog(b *buffer.Buffer, destination string) (uplink.Log, error) {
	return newBufferLog(b, destination)
}

package hub

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
)

// deviceKey names a device of a tenant.
type deviceKey struct{ tenant, device string }

const maxName = 128 // bytes of a tenant's or a device's name

// parseTopic reads ea/v1/{tenant}/{device}/d/{lane}. The lane is a matter of
// priority on the way and means nothing here. Names that a database or a terminal could
// stumble over are none.
func parseTopic(topic string) (deviceKey, bool) {
	parts := strings.Split(topic, "/")
	if len(parts) != 6 || parts[0] != "ea" || parts[1] != "v1" || parts[4] != "d" {
		return deviceKey{}, false
	}
	for _, name := range []string{parts[2], parts[3], parts[5]} {
		if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return deviceKey{}, false
		}
	}
	// Copied: the topic is part of a message that is gone soon.
	return deviceKey{strings.Clone(parts[2]), strings.Clone(parts[3])}, true
}

func (k deviceKey) epoch(e edgeagent.Epoch) EpochID { return EpochID{k.tenant, k.device, e} }

func (k deviceKey) ackTopic() string { return "ea/v1/" + k.tenant + "/" + k.device + "/ack" }

package mqtt

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// reason is a reason code of MQTT 5 (section 2.4). From 0x80 up something failed.
type reason byte

const (
	noSubscribers      reason = 0x10
	malformedPacket    reason = 0x81
	protocolError      reason = 0x82
	implementation     reason = 0x83
	unsupportedVersion reason = 0x84
	clientIDInvalid    reason = 0x85
	badLogin           reason = 0x86
	notAuthorized      reason = 0x87
	banned             reason = 0x8a
	serverUnavailable  reason = 0x88
	serverBusy         reason = 0x89
	badAuthMethod      reason = 0x8c
	takenOver          reason = 0x8e
	topicInvalid       reason = 0x90
	numberInUse        reason = 0x91
	receiveExceeded    reason = 0x93
	packetTooLarge     reason = 0x95
	rateTooHigh        reason = 0x96
	quotaExceeded      reason = 0x97
	payloadInvalid     reason = 0x99
	useAnother         reason = 0x9c
	serverMoved        reason = 0x9d
	connectionRate     reason = 0x9f
)

func (r reason) failed() bool { return r >= 0x80 }

// String returns the meaning in the words of the specification.
func (r reason) String() string {
	text := ""
	switch r {
	case 0x00:
		text = "success"
	case noSubscribers:
		text = "no matching subscribers"
	case 0x80:
		text = "unspecified error"
	case malformedPacket:
		text = "malformed packet"
	case protocolError:
		text = "protocol error"
	case implementation:
		text = "implementation specific error"
	case unsupportedVersion:
		text = "unsupported protocol version"
	case clientIDInvalid:
		text = "client id not valid"
	case badLogin:
		text = "bad user name or password"
	case notAuthorized:
		text = "not authorized"
	case serverUnavailable:
		text = "server unavailable"
	case serverBusy:
		text = "server busy"
	case banned:
		text = "banned"
	case 0x8b:
		text = "server shutting down"
	case badAuthMethod:
		text = "bad authentication method"
	case 0x8d:
		text = "keep alive timeout"
	case takenOver:
		text = "session taken over"
	case 0x8f:
		text = "topic filter invalid"
	case topicInvalid:
		text = "topic name invalid"
	case numberInUse:
		text = "packet identifier in use"
	case receiveExceeded:
		text = "receive maximum exceeded"
	case 0x94:
		text = "topic alias invalid"
	case packetTooLarge:
		text = "packet too large"
	case rateTooHigh:
		text = "message rate too high"
	case quotaExceeded:
		text = "quota exceeded"
	case 0x98:
		text = "administrative action"
	case payloadInvalid:
		text = "payload format invalid"
	case 0x9b:
		text = "quality of service not supported"
	case useAnother:
		text = "use another server"
	case serverMoved:
		text = "server moved"
	case 0x9e:
		text = "shared subscriptions not supported"
	case connectionRate:
		text = "connection rate exceeded"
	case 0xa0:
		text = "maximum connect time"
	case 0xa2:
		text = "wildcard subscriptions not supported"
	default:
		return fmt.Sprintf("reason 0x%02x", byte(r))
	}
	return fmt.Sprintf("%s (0x%02x)", text, byte(r))
}

// maxSaid bounds what is shown of a server's own words.
const maxSaid = 200

// with appends the server's own words, which nobody vouches for.
func (r reason) with(said string) string {
	if said == "" {
		return r.String()
	}
	if len(said) > maxSaid {
		said = said[:maxSaid] + "…"
	}
	return r.String() + ": " + strconv.Quote(said)
}

// class says what the sender of a message has to do about a PUBACK. What is not
// known to be the message's fault, or a person's, is tried again.
func (r reason) class() uplink.Class {
	switch r {
	case noSubscribers:
		return uplink.NoReceiver
	case notAuthorized, topicInvalid:
		return uplink.ConfigError
	case packetTooLarge, payloadInvalid, implementation:
		return uplink.Poison
	case numberInUse:
		return uplink.Unknown // its session is not ours: a new one will do
	}
	if r.failed() {
		return uplink.Throttled
	}
	return uplink.Accepted // mochi answers 0x01, the quality of service
}

// refusedPublish explains a PUBACK that is not plain success.
func refusedPublish(r reason, said, topic string) error {
	err := fmt.Errorf("publish to %s: %s", topic, r.with(said))
	switch r {
	case notAuthorized, topicInvalid:
		return edgeagent.WithHint(err, "let the broker's access list allow the topic to the user in destinations[].links[].username")
	case noSubscribers:
		return edgeagent.WithHint(err, "start a subscriber, edgehub receive say; or set destinations[].no_subscriber: accept")
	case packetTooLarge:
		return edgeagent.WithHint(err, "raise the broker's limit, or lower destinations[].max_message")
	}
	return err
}

// refusedLogin explains a CONNACK that is no success.
func (l *link) refusedLogin(r reason, said, server string) error {
	switch r {
	case serverUnavailable, serverBusy, receiveExceeded, rateTooHigh, quotaExceeded, connectionRate:
		return uplink.Busy(r.with(said), 0)
	case badLogin, notAuthorized, banned, badAuthMethod:
		return uplink.Refused(r.with(said), loginHint)
	case clientIDInvalid:
		return uplink.Refused("client id "+l.clientID+": "+r.with(said),
			"set destinations[].links[].client_id to an id that the broker accepts")
	case unsupportedVersion:
		return uplink.Refused(r.with(said), otherVersionHint)
	case useAnother, serverMoved:
		text := r.with(said)
		if server != "" {
			text += ", to " + strconv.Quote(server[:min(len(server), maxSaid)])
		}
		return uplink.Refused(text, "set destinations[].links[].url to the other server: redirects are not followed")
	case protocolError, malformedPacket, 0x9b:
		return uplink.Refused(r.with(said), otherVersionHint)
	}
	return errors.New(r.with(said))
}

const otherVersionHint = `try another destinations[].links[].protocol: "3.1.1" or "5"`

// ended explains a DISCONNECT.
func (l *link) ended(r reason, said, server string) error {
	if r == takenOver {
		return edgeagent.WithHint(errors.New(r.with(said)),
			"another client uses the client id "+l.clientID+": every gateway needs a device.id of its own")
	}
	if r == protocolError || r == malformedPacket || r == clientIDInvalid {
		return errors.New(r.with(said)) // the login was well
	}
	return l.refusedLogin(r, said, server)
}

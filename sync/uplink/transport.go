package uplink

import (
	"context"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Lane is a priority on the link, and the last level of the topic or path.
type Lane uint8

// The lanes, highest priority first.
const (
	LaneAlarm Lane = iota
	LaneEvent
	LaneLive
	LaneBacklog
)

var laneNames = [...]string{"alarm", "event", "live", "backlog"}

// String returns the lane's name in topics and metrics.
func (l Lane) String() string { return laneNames[l] }

// Message is one payload on its way: one or more blocks back to back, or text.
type Message struct {
	// ID is chosen by the engine and unique within a session.
	ID      uint64
	Lane    Lane
	Payload []byte
	// Identity of the records inside, for transports that can carry it beside
	// the payload. Count is 0 for a message of series blocks alone.
	Identity edgeagent.BatchHeader
	// ContentType names the payload format: "block", "line", "json".
	ContentType string
	// Encoding is how the payload is compressed: "", "gzip" or "lz4".
	Encoding string
}

// Result is what became of one message.
type Result struct {
	ID    uint64
	Class Class
	Err   error         // why, for every class but Accepted
	After time.Duration // with Throttled: the server's hint, 0 if none
}

// Class sorts results by what the sender has to do.
type Class uint8

// The classes of notes: accepted, retry later, stop the lane, never again,
// unknown.
const (
	Accepted    Class = iota // the transport's acknowledgement came
	NoReceiver               // accepted, but nobody is subscribed
	Throttled                // slow down and send the same bytes again
	ConfigError              // refused for a reason that a person must mend
	Poison                   // refused for what it is: split it, then set it aside
	Unknown                  // the session ended first: send again
)

var classNames = [...]string{"accepted", "no receiver", "throttled", "config error", "poison", "unknown"}

// String names the class in logs and metrics.
func (c Class) String() string { return classNames[c] }

// Caps are the limits that a session was granted.
type Caps struct {
	MaxInFlight  int // messages; 0 = no limit told
	MaxMessage   int // bytes of payload; 0 = no limit told
	KeepAlive    time.Duration
	ReasonCodes  bool // acknowledgements carry a reason (MQTT 5, CoAP)
	ServerSilent bool // the transport has no acknowledgement at all
	// LetsGo: a payload is not touched any more once Send has returned and the result
	// was told, so that its memory may be used again. What has no result when the
	// session ends is left alone.
	LetsGo bool
}

// Handler receives what happens on a session. A transport calls it from one
// goroutine at a time and never while it holds a lock that Send needs.
type Handler interface {
	// Up is called once, when the session is ready for messages.
	Up(Caps)
	// Result is called at most once for each message sent. A message without a
	// result when Run returns is unsent.
	Result(Result)
	// Ack is called with each end-to-end acknowledgement, as received.
	Ack(payload []byte)
}

// HintHandler is implemented by handlers that want to know what the server asks for:
// see [Hint]. A transport calls it like Ack, with each payload on the hint topic, an
// empty one included.
type HintHandler interface {
	Hint(payload []byte)
}

// Session is one connection that is up.
type Session interface {
	// Send hands one message to the link. It may block for as long as the
	// link's write timeout; an error means that the session is over. It is
	// called by one goroutine at a time.
	Send(ctx context.Context, m Message) error
}

// Transport opens sessions to one server over one link.
type Transport interface {
	// Session connects, calls start with the ready session, and returns when
	// the session has ended: by ctx (after an orderly goodbye), by the
	// server, or because the link died. Every goroutine it started is gone by
	// then and h is not called any more. start runs in its own goroutine and
	// its context ends with the session. An error of type *RefusedError means
	// that the server answered and said no.
	Session(ctx context.Context, h Handler, start func(ctx context.Context, s Session)) error
	// String names the link for people, without secrets: "tcp://host:1883".
	String() string
}

// RefusedError is a server's refusal of the login itself. It is not a reason to
// hurry: the engine waits for minutes before it tries again.
type RefusedError struct {
	Reason string // the server's words or the meaning of its code
	hint   string
}

// Refused makes a RefusedError with a hint that names an option.
func Refused(reason, hint string) *RefusedError { return &RefusedError{reason, hint} }

func (e *RefusedError) Error() string { return "server refused the connection: " + e.Reason }

// Hint names what to change.
func (e *RefusedError) Hint() string { return e.hint }

// BusyError is a server's word that it has no room now. Unlike [RefusedError] nothing
// is wrong.
type BusyError struct {
	Reason string        // the server's words or the meaning of its code
	After  time.Duration // not before; 0 = the server did not say
}

// Busy makes a BusyError.
func Busy(reason string, after time.Duration) *BusyError { return &BusyError{reason, after} }

func (e *BusyError) Error() string { return "server is busy: " + e.Reason }

package edgeagent

import "fmt"

// Severity ranks events and alarms.
type Severity uint8

// The severities.
const (
	Info     Severity = 0
	Warning  Severity = 1
	Critical Severity = 2
)

var severityNames = [...]string{"info", "warning", "critical"}

// String returns the name used in every format.
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// ParseSeverity is the inverse of [Severity.String].
func ParseSeverity(name string) (Severity, error) {
	for i, n := range severityNames {
		if name == n {
			return Severity(i), nil
		}
	}
	return 0, fmt.Errorf("unknown severity %q, want info, warning or critical", name)
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *Severity) UnmarshalText(text []byte) error {
	v, err := ParseSeverity(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// Bounds of an event's free parts; what is longer is refused by the buffer.
const (
	MaxEventText  = 1 << 10 // bytes of Text
	MaxEventAttrs = 4 << 10 // bytes of all keys and values of Attrs
	// MaxEventData bounds Data. An event that has any is at most MaxEventSize bytes
	// with all its texts and names, so that it fits a block.
	MaxEventData = 24 << 10
	MaxEventSize = 28 << 10
)

// Event is one record of the alarm or the event stream.
type Event struct {
	At       Instant
	Kind     string // "alarm", "gap", "capture", …
	Severity Severity
	// ID names what the event is about; for an alarm it is
	// "rule/instance/onset" and stays the same over all its transitions.
	ID string
	// N counts the transitions of an alarm: 1, 2, 3 …
	N      uint32
	Series string // "sensor/metric" the event is about, or empty
	Text   string // for people
	Attrs  map[string]string
	// Data is what a machine reads: of a capture a series block and a readings
	// block. Nobody changes it.
	Data []byte
	// Recorded: as in [Reading].
	Recorded bool
}

// Values of Attrs["state"] of an alarm.
const (
	AlarmFiring    = "firing"
	AlarmEscalated = "escalated"
	AlarmCleared   = "cleared"
	KindAlarm      = "alarm" // Event.Kind of every alarm transition

	// KindCapture is the kind of the events that bear the raw readings around an
	// alarm: ID is the alarm's, N counts the parts.
	KindCapture = "capture"
)

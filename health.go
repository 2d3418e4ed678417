package edgeagent

import (
	"fmt"
	"time"
)

// Level ranks the health of a part of the agent.
type Level uint8

// The levels. A degraded part works, or stands aside, and hurts nobody else.
const (
	OK       Level = 0
	Degraded Level = 1
	Failed   Level = 2
)

var levelNames = [...]string{"ok", "degraded", "failed"}

// String returns the name used by status and the API.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// MarshalText writes the name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the name.
func (l *Level) UnmarshalText(text []byte) error {
	for i, n := range levelNames {
		if string(text) == n {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("unknown health level %q", text)
}

// Health is what a part of the agent says of itself when asked.
type Health struct {
	Level Level     `json:"level"`
	Code  string    `json:"code,omitempty"` // stable, for machines: "sensor-stuck"
	Text  string    `json:"text,omitempty"` // one line for people, lower case
	Hint  string    `json:"hint,omitempty"` // what to do, naming a real command or option
	Since time.Time `json:"since,omitzero"`
}

// Hinter is an error that can tell its reader what to do about it.
type Hinter interface {
	error
	Hint() string
}

// WithHint wraps err so that the command line prints hint below it. The hint
// names a real command or option.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
func (h *hinted) Hint() string  { return h.hint }

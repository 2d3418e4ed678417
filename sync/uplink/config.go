package uplink

import (
	"time"

	"github.com/edgeagent/edgeagent"
)

// Config is one destination.
type Config struct {
	Name     string       `yaml:"name"`
	Links    []LinkConfig `yaml:"links"`    // tried in order; this version uses the first
	Format   string       `yaml:"format"`   // block, line, json; default block with a receiver, else line
	Ack      AckLevel     `yaml:"ack"`      // transport, end_to_end; default end_to_end for block
	Receiver string       `yaml:"receiver"` // the name that end-to-end acks must bear

	LiveWindow     time.Duration   `yaml:"live_window"`     // default 60s
	Linger         time.Duration   `yaml:"linger"`          // default 500ms
	AckTimeout     time.Duration   `yaml:"ack_timeout"`     // default 20s
	ConfirmTimeout time.Duration   `yaml:"confirm_timeout"` // default 5m
	MaxInFlight    int             `yaml:"max_in_flight"`   // messages, default 64, at most 64
	MaxMessage     edgeagent.Bytes `yaml:"max_message"`     // default 256KiB, at most 256KiB
	Reconnect      ReconnectConfig `yaml:"reconnect"`
}

// LinkConfig is one way to reach a destination.
type LinkConfig struct {
	URL       string           `yaml:"url"` // mqtt://host:1883 (or tcp://)
	ClientID  string           `yaml:"client_id"`
	Username  string           `yaml:"username"`
	Password  edgeagent.Secret `yaml:"password"` // file:… or env:…
	KeepAlive time.Duration    `yaml:"keep_alive"`
}

// ReconnectConfig shapes the back-off: decorrelated jitter between Base and Cap.
type ReconnectConfig struct {
	Base   time.Duration `yaml:"base"`   // default 1s
	Cap    time.Duration `yaml:"cap"`    // default 2m
	Spread time.Duration `yaml:"spread"` // first try after a healthy session waits U(0, spread); default 5s
}

// AckLevel says what confirms a record.
type AckLevel string

// The ack levels. Reason codes come with MQTT 5.
const (
	AckTransport AckLevel = "transport"
	AckEndToEnd  AckLevel = "end_to_end"
)

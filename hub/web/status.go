package web

import (
	"context"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Source is the hub that is looked at.
type Source interface {
	Status(ctx context.Context) Status
	// Devices returns what is known of each device, by tenant and name.
	Devices(ctx context.Context) ([]Device, error)
	// Gaps returns the holes, by device, epoch and stream.
	Gaps(ctx context.Context) ([]Gap, error)
	// Replay asks a device for what is missing, also for what it gave before the hub
	// knew it if all is set.
	Replay(ctx context.Context, tenant, device string, all bool) (Replay, error)
}

// Store is where the hub keeps readings, if it can be asked.
type Store interface {
	Series(ctx context.Context, tenant, device string) ([]Series, error)
	// Query calls row for each reading, by rising time, until row returns an error,
	// and returns that.
	Query(ctx context.Context, q Query, row func(Row) error) error
}

// SilentAfter is when a device counts as silent.
const SilentAfter = 2 * time.Minute

// Status is the state of a hub.
type Status struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	UptimeS float64   `json:"uptime_s"`

	Health   edgeagent.Level    `json:"health"`
	Warnings []edgeagent.Health `json:"warnings"`

	Sink   Sink    `json:"sink"`
	Inputs []Input `json:"inputs"`
	// Broker is where gateways publish, if the hub has a broker of its own.
	Broker string `json:"broker,omitempty"`

	Devices int `json:"devices"`
	// Silent counts the devices not heard for two minutes.
	Silent    int     `json:"silent"`
	Messages  uint64  `json:"messages"`
	Bytes     uint64  `json:"bytes"`
	Records   uint64  `json:"records"`
	PerS      float64 `json:"records_per_s"` // over the last minute
	Resent    uint64  `json:"resent"`
	Missing   uint64  `json:"missing"`
	Lost      uint64  `json:"lost"`
	BadTopics uint64  `json:"bad_topics"`
	Refused   uint64  `json:"refused"`
	Marks     uint64  `json:"marks"`
	Acks      uint64  `json:"acks"`
	AckErrors uint64  `json:"ack_errors"`
	Replays   uint64  `json:"replays"`
	// Queued are messages that wait for the next commit, at most 512 of each input.
	Queued int `json:"queued"`

	Quarantined       map[string]uint64 `json:"quarantined"` // blocks ever, by cause
	QuarantineBytes   int               `json:"quarantine_bytes"`
	QuarantineDropped uint64            `json:"quarantine_dropped"`

	// History is the throughput of the last five minutes, oldest first.
	History []Rate `json:"history"`
}

// Rate is the throughput of a few seconds.
type Rate struct {
	T    time.Time `json:"t"`
	PerS float64   `json:"records_per_s"`
}

// Sink is where records go.
type Sink struct {
	Name      string `json:"name"`
	Guarantee string `json:"guarantee"`
	Errors    uint64 `json:"errors"` // commits that failed and were tried again
	Error     string `json:"error,omitempty"`
}

// Input is where messages come from.
type Input struct {
	Name      string `json:"name"`
	Connected bool   `json:"connected"`
	Delivered uint64 `json:"delivered"`
	Dropped   uint64 `json:"dropped"` // not acknowledged: they come again
	Depth     int    `json:"depth"`
	Error     string `json:"error,omitempty"`
}

// Device is what a hub knows of one device.
type Device struct {
	Tenant    string    `json:"tenant"`
	Device    string    `json:"device"`
	Seen      time.Time `json:"seen,omitzero"`
	SilentS   float64   `json:"silent_s"`
	Records   uint64    `json:"records"`
	PerS      float64   `json:"records_per_s"`
	Series    int       `json:"series"`
	Missing   uint64    `json:"missing"`
	Lost      uint64    `json:"lost"`
	Resent    uint64    `json:"resent"`
	Conflicts uint64    `json:"conflicts"`
	Waiting   int       `json:"waiting"` // blocks that wait for names
	Complete  bool      `json:"complete"`
	// LagS is how far the newest reading is behind, absent when there is none.
	LagS    *float64 `json:"lag_s,omitempty"`
	Streams []Stream `json:"streams"`
}

// Stream is one stream of one epoch.
type Stream struct {
	Epoch     edgeagent.Epoch  `json:"epoch"`
	Stream    edgeagent.Stream `json:"stream"`
	Held      uint64           `json:"held"`
	Top       edgeagent.Seq    `json:"top"`
	Next      edgeagent.Seq    `json:"next,omitempty"`
	Missing   uint64           `json:"missing"`
	Lost      uint64           `json:"lost"`
	Resent    uint64           `json:"resent"`
	Conflicts uint64           `json:"conflicts"`
	Complete  bool             `json:"complete"`
	Newest    time.Time        `json:"newest,omitzero"`
}

// Gap is a range of numbers that is not held.
type Gap struct {
	Tenant string           `json:"tenant"`
	Device string           `json:"device"`
	Epoch  edgeagent.Epoch  `json:"epoch"`
	Stream edgeagent.Stream `json:"stream"`
	From   edgeagent.Seq    `json:"from"`
	To     edgeagent.Seq    `json:"to"`
	// Reason is why the device cannot deliver them, empty while it has not said so.
	Reason string `json:"reason,omitempty"`
	AtMost uint64 `json:"at_most,omitempty"`
}

// Replay is what became of a request.
type Replay struct {
	Missing uint64 `json:"missing"` // numbers that were holes; the device is asked for the first of them
}

// Series is one series of a device.
type Series struct {
	Name   string            `json:"series"`
	Unit   string            `json:"unit"`
	Kind   string            `json:"kind"`
	Tags   map[string]string `json:"tags,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Last   *Row              `json:"last,omitempty"`
}

// Query asks for the readings of the series of a device whose name is Series, from
// Since to Until in Unix ns, Until not included.
type Query struct {
	Tenant, Device, Series string
	Since, Until           int64
}

// Row is one reading.
type Row struct {
	Time    int64 // Unix ns
	Value   float64
	Quality string
	// Tags tell series of the same name apart.
	Tags string
}

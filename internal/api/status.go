package api

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Source tells the state of a running agent. It is called for each request, from
// many goroutines at once.
type Source interface {
	Status(ctx context.Context) Status
}

// Status is everything there is to say about an agent at one moment.
type Status struct {
	Health  Health        `json:"health"`
	Version string        `json:"version"`
	Tenant  string        `json:"tenant"`
	Device  string        `json:"device"`
	Run     edgeagent.Run `json:"run"`
	Time    Time          `json:"time"` // of this status
	Started Time          `json:"started"`
	Uptime  Seconds       `json:"uptime_s"`
	Clock   Clock         `json:"clock"`
	Sensors []Sensor      `json:"sensors"`
	Buffer  Buffer        `json:"buffer"`
	Uplinks []Uplink      `json:"uplinks"`
	Rules   Rules         `json:"rules"`
}

// Health is the verdict over the whole agent: the worst level of its parts, and
// why, worst first. Alarms do not count: they are about the world.
type Health struct {
	Level    edgeagent.Level `json:"level"`
	Warnings []Warning       `json:"warnings"`
}

// Warning is one reason for not being healthy.
type Warning struct {
	PartHealth
	// Part names what it is about: "buffer", "sensor/boiler", "uplink/cloud".
	Part string `json:"part"`
}

// PartHealth is what one part says of itself.
type PartHealth struct {
	Level edgeagent.Level `json:"level"`
	Code  string          `json:"code,omitempty"` // stable, for machines
	Text  string          `json:"text,omitempty"` // one line for people
	Hint  string          `json:"hint,omitempty"` // what to do
	Since Time            `json:"since,omitzero"`
}

// PartHealthOf turns a part's own words into their JSON form.
func PartHealthOf(h edgeagent.Health) PartHealth {
	return PartHealth{Level: h.Level, Code: h.Code, Text: h.Text, Hint: h.Hint, Since: At(h.Since)}
}

// Clock says how far the wall time can be trusted.
type Clock struct {
	Synced bool   `json:"synced"`
	Source string `json:"source"` // clock.source of the configuration: auto, trusted
}

// Sensor is one configured sensor. Counts are since the start of this run.
type Sensor struct {
	Name       string     `json:"name"`
	Driver     string     `json:"driver"`
	Interval   Seconds    `json:"interval_s"`
	Health     PartHealth `json:"health"`
	Samples    uint64     `json:"samples"`  // completed, failed ones included
	Readings   uint64     `json:"readings"` // taken
	Errors     uint64     `json:"errors"`   // samples and opens that failed
	Missed     uint64     `json:"missed"`   // samples that were due and not begun
	LastSample Time       `json:"last_sample,omitzero"`
	LastError  string     `json:"last_error,omitempty"`
	Values     []Value    `json:"values"` // the latest of each series, bounded
}

// Value is the latest reading of one series.
type Value struct {
	Series  string  `json:"series"` // "boiler/temperature"
	Metric  string  `json:"metric"`
	Value   Number  `json:"value"`
	Unit    string  `json:"unit,omitempty"`
	Label   string  `json:"label,omitempty"` // the name of a state's number
	Quality string  `json:"quality"`         // good, suspect, stale, bad
	At      Time    `json:"at"`
	Age     Seconds `json:"age_s"` // by run time: right also while the clock is wrong
}

// ValueOf describes reading r, taken age ago.
func ValueOf(r edgeagent.Reading, age time.Duration) Value {
	key := r.Series.Key()
	v := Value{
		Series: key.Name(), Metric: key.Metric, Value: Number(r.Value), Unit: key.Unit,
		Quality: r.Quality.String(), At: At(time.Unix(0, r.At.Wall)), Age: SecondsOf(age),
	}
	if key.Kind == edgeagent.State {
		v.Label, _ = key.Labels.Get(strconv.FormatFloat(r.Value, 'g', -1, 64))
	}
	return v
}

// Buffer is the durable log. Counts are since the start of this run, unless they
// say "held".
type Buffer struct {
	Dir        string                      `json:"dir"`
	Health     PartHealth                  `json:"health"`
	Epoch      edgeagent.Epoch             `json:"epoch"`
	Run        edgeagent.Run               `json:"run"`
	Streams    map[edgeagent.Stream]Stream `json:"streams"`
	Bytes      int64                       `json:"bytes"`              // on disk
	MaxBytes   int64                       `json:"max_bytes"`          // the budget
	Pressure   float64                     `json:"pressure"`           // 0 empty to 1 full
	FillIn     Seconds                     `json:"fill_in_s,omitzero"` // if nothing were confirmed, at this run's rate; absent while unknown
	Oldest     Time                        `json:"oldest,omitzero"`    // record held
	Appended   uint64                      `json:"appended"`           // records
	Pending    uint64                      `json:"pending"`            // records that no segment holds yet
	HeadUsed   int64                       `json:"head_used"`          // bytes of the head file that is written to
	HeadSize   int64                       `json:"head_size"`
	Memory     bool                        `json:"memory,omitempty"`            // the disk has failed: what is held is in memory only
	Forgotten  uint64                      `json:"forgotten_records,omitempty"` // that memory had no room for since then
	Commits    uint64                      `json:"commits"`
	Fsyncs     uint64                      `json:"fsyncs"`
	Evicted    uint64                      `json:"evicted_records"`   // at most this many
	RolledUp   uint64                      `json:"rolled_up_records"` // that gave way to rollups
	Gaps       uint64                      `json:"gaps"`              // ranges held in the ledger
	GapRecords uint64                      `json:"gap_records"`       // at most this many
	Segments   uint64                      `json:"segments"`          // files held
	Series     uint64                      `json:"series"`            // of this epoch
}

// Stream is one number space of the buffer.
type Stream struct {
	Records uint64        `json:"records"`         // held, all epochs
	Next    edgeagent.Seq `json:"next"`            // number of the next record
	Bytes   int64         `json:"bytes,omitempty"` // on disk
}

// Uplink is one destination. Counts are since the start of this run.
type Uplink struct {
	Name      string     `json:"name"`
	Link      string     `json:"link"` // without secrets
	Format    string     `json:"format"`
	Ack       string     `json:"ack"`
	State     string     `json:"state"` // see the constants
	Since     Time       `json:"since,omitzero"`
	Health    PartHealth `json:"health"`
	LastError string     `json:"last_error,omitempty"`
	RetryIn   Seconds    `json:"retry_in_s,omitzero"` // while State is "backoff"
	LastAck   Time       `json:"last_ack,omitzero"`
	Connects  uint64     `json:"connects"` // sessions that came up

	Messages    uint64                      `json:"messages_sent"`
	Bytes       uint64                      `json:"bytes_sent"`
	Sent        uint64                      `json:"records_sent"`
	Accepted    uint64                      `json:"records_accepted"`
	Confirmed   uint64                      `json:"records_confirmed"`
	Resent      uint64                      `json:"records_resent"`
	Moved       uint64                      `json:"records_moved"`             // to a new epoch, because the buffer was put back
	DeadLetters uint64                      `json:"dead_letters"`              // records given up because they are refused for ever
	Replays     uint64                      `json:"replays"`                   // requests of the receiver for what it has lost
	WireBytes   uint64                      `json:"wire_bytes,omitzero"`       // on the link, both ways
	QuotaUsed   uint64                      `json:"quota_used_bytes,omitzero"` // of this month
	QuotaBytes  uint64                      `json:"quota_bytes,omitzero"`      // 0 = no quota
	InFlight    uint64                      `json:"in_flight_messages"`
	Waiting     uint64                      `json:"accepted_unconfirmed_records"`
	Backlog     uint64                      `json:"backlog_records"` // held and not confirmed
	ByStream    map[edgeagent.Stream]uint64 `json:"backlog_by_stream"`
}

// States of an uplink. Others may be added; whoever reads them treats an unknown
// one as not up.
const (
	UplinkUp         = "up"
	UplinkConnecting = "connecting"
	UplinkBackoff    = "backoff"
	UplinkWaiting    = "waiting" // until RetryIn: the times of day, the quota or the server do not want a session
	UplinkStopped    = "stopped"
)

// Rules is the rule engine.
type Rules struct {
	Health    PartHealth `json:"health"`
	Loaded    uint64     `json:"loaded"` // rules of all files
	Firing    uint64     `json:"firing"` // instances
	Evaluated uint64     `json:"evaluations"`
	Instances []Rule     `json:"instances"` // bounded; the firing ones first
}

// Rule is one instance of a rule.
type Rule struct {
	ID       string             `json:"id"`                 // of the rule
	Instance string             `json:"instance,omitempty"` // what a glob stands for here
	State    string             `json:"state"`              // ok, pending, firing, clearing, unknown
	Severity edgeagent.Severity `json:"severity"`
	Since    Time               `json:"since,omitzero"`
	Text     string             `json:"text,omitempty"` // of the alarm
	// Learning: a detector that the rule asks does not know enough yet.
	Learning bool `json:"learning,omitempty"`
}

// RuleFiring is the State of a rule whose alarm is raised; the Clearing ones are
// raised still.
const (
	RuleFiring   = "firing"
	RuleClearing = "clearing"
)

// raised reports whether the rule's alarm stands.
func (r Rule) raised() bool { return r.State == RuleFiring || r.State == RuleClearing }

// Judge sets Health from the health of all parts and from other warnings that
// belong to none of them.
func (s *Status) Judge(others ...Warning) {
	warnings := slices.Clone(others)
	add := func(part string, h PartHealth) { warnings = append(warnings, Warning{h, part}) }
	add("buffer", s.Buffer.Health)
	for _, u := range s.Uplinks {
		add("uplink/"+u.Name, u.Health)
	}
	for _, x := range s.Sensors {
		add("sensor/"+x.Name, x.Health)
	}
	add("rules", s.Rules.Health)
	warnings = slices.DeleteFunc(warnings, func(w Warning) bool { return w.Level == edgeagent.OK })
	slices.SortStableFunc(warnings, func(a, b Warning) int { return int(b.Level) - int(a.Level) })
	s.Health = Health{Level: edgeagent.OK, Warnings: warnings}
	if len(warnings) > 0 {
		s.Health.Level = warnings[0].Level
	}
}

// normal replaces nil slices and maps: in JSON a list is [] when it is empty, so
// that whoever reads it need not care.
func (s Status) normal() Status {
	s.Health.Warnings = orEmpty(s.Health.Warnings)
	s.Uplinks = slices.Clone(orEmpty(s.Uplinks))
	for i := range s.Uplinks {
		if s.Uplinks[i].ByStream == nil {
			s.Uplinks[i].ByStream = map[edgeagent.Stream]uint64{}
		}
	}
	s.Sensors = slices.Clone(orEmpty(s.Sensors))
	for i := range s.Sensors {
		s.Sensors[i].Values = orEmpty(s.Sensors[i].Values)
	}
	if s.Buffer.Streams == nil {
		s.Buffer.Streams = map[edgeagent.Stream]Stream{}
	}
	s.Rules.Instances = orEmpty(s.Rules.Instances)
	return s
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// MarshalJSON writes the contract of docs/reference/cli-json.md.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	s = s.normal()
	if math.IsNaN(s.Buffer.Pressure) || math.IsInf(s.Buffer.Pressure, 0) {
		s.Buffer.Pressure = 1 // the cautious reading of no number
	}
	return json.Marshal(plain(s))
}

// Seconds is a duration; in JSON it is a number of seconds.
type Seconds float64

// SecondsOf rounds d to milliseconds.
func SecondsOf(d time.Duration) Seconds {
	return Seconds(float64(d.Round(time.Millisecond)/time.Millisecond) / 1e3)
}

// Duration converts back; what does not fit is the longest duration there is.
func (s Seconds) Duration() time.Duration {
	ns := math.Round(float64(s) * 1e9)
	if ns > math.MinInt64 && ns < math.MaxInt64 {
		return time.Duration(ns)
	}
	return math.MaxInt64
}

// MarshalJSON writes the number; what is not one is null.
func (s Seconds) MarshalJSON() ([]byte, error) { return Number(s).MarshalJSON() }

// Time is a point in time; in JSON RFC 3339, UTC, milliseconds. The zero Time
// means never.
type Time struct{ time.Time }

// At wraps t.
func At(t time.Time) Time { return Time{t} }

const timeFormat = "2006-01-02T15:04:05.000Z"

// MarshalJSON writes the time in UTC, null for never.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	u := t.UTC()
	if y := u.Year(); y < 0 || y > 9999 {
		return []byte("null"), nil // a clock that wrong has no time
	}
	return []byte(u.Format(`"` + timeFormat + `"`)), nil
}

// Number is a value that may be NaN or infinite, for which JSON has no word: it
// is null then, and comes back as NaN.
type Number float64

// MarshalJSON writes the number or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads a number or null.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

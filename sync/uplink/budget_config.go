package uplink

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// QuotaConfig bounds the bytes of a month. The zero value is no bound.
//
// Of the bound the last part is kept: beyond 100 - Reserve percent backlog waits,
// beyond 100 - ReserveAlarms percent live readings wait as well and the link is there
// for alarms and events alone, only when there are any; the last half of ReserveAlarms
// is for alarms.
type QuotaConfig struct {
	Limit         edgeagent.Bytes `yaml:"limit"`          // on the wire, both ways, in a month
	ResetDay      int             `yaml:"reset_day"`      // of the month, default 1; the last day where the month is shorter
	Timezone      string          `yaml:"timezone"`       // default the machine's
	Reserve       int             `yaml:"reserve"`        // percent, default 20
	ReserveAlarms int             `yaml:"reserve_alarms"` // percent, default 5
}

// ConnectConfig says when the link may be up. The zero value is always.
type ConnectConfig struct {
	Times    []string   `yaml:"times"`    // "02:00-04:30", "mon-fri 22:00-02:00", "sat,sun 00:00-24:00"
	Timezone string     `yaml:"timezone"` // default the machine's
	Alarms   AlarmsOpen `yaml:"alarms"`   // outside: open (default), or wait
}

// AlarmsOpen says what alarms do while the link should be down.
type AlarmsOpen string

// What alarms do.
const (
	AlarmsOpenLink AlarmsOpen = "open"
	AlarmsWait     AlarmsOpen = "wait"
)

// Bounds of budgets.
const (
	leastRate  = 100      // bytes a second: a message takes its time, but not hours
	leastBurst = 16 << 10 // the largest event, with room
	leastQuota = 1 << 20
	maxTimes   = 32
)

func (q QuotaConfig) withDefaults() QuotaConfig {
	if q.Limit == 0 {
		return q
	}
	q.ResetDay = or(q.ResetDay, 1)
	q.Reserve = or(q.Reserve, 20)
	q.ReserveAlarms = or(q.ReserveAlarms, min(5, q.Reserve))
	return q
}

func (c ConnectConfig) withDefaults() ConnectConfig {
	if len(c.Times) > 0 {
		c.Alarms = or(c.Alarms, AlarmsOpenLink)
	}
	return c
}

// validateBudget checks rate, quota and times of a configuration with defaults.
func (c Config) validateBudget() error {
	var errs []error
	switch {
	case c.Rate == 0 && c.Burst != 0:
		errs = append(errs, edgeagent.Field("burst", "a burst needs a rate beside it"))
	case c.Rate < 0 || c.Rate > 0 && c.Rate < leastRate:
		errs = append(errs, edgeagent.Field("rate", "%s is out of range, want at least %s", c.Rate, edgeagent.Bytes(leastRate)))
	case c.Rate > 0 && c.Burst < leastBurst:
		errs = append(errs, edgeagent.Field("burst", "%s is out of range, want at least %s", c.Burst, edgeagent.Bytes(leastBurst)))
	}
	if c.BacklogRate < 0 || c.BacklogRate > 0 && c.BacklogRate < leastRate {
		errs = append(errs, edgeagent.Field("backlog_rate", "%s is out of range, want at least %s", c.BacklogRate, edgeagent.Bytes(leastRate)))
	}
	return errors.Join(append(errs, edgeagent.InField("quota", c.Quota.validate()), edgeagent.InField("connect", c.Connect.validate()))...)
}

func (q QuotaConfig) validate() error {
	if q == (QuotaConfig{}) {
		return nil
	}
	var errs []error
	if q.Limit < leastQuota {
		errs = append(errs, edgeagent.Field("limit", "%s is out of range, want at least %s", q.Limit, edgeagent.Bytes(leastQuota)))
	}
	if q.Limit > 0 && (q.ResetDay < 1 || q.ResetDay > 31) {
		errs = append(errs, edgeagent.Field("reset_day", "%d is out of range, want 1 to 31", q.ResetDay))
	}
	if q.Limit > 0 && (q.Reserve < 1 || q.Reserve > 90) {
		errs = append(errs, edgeagent.Field("reserve", "%d is out of range, want 1 to 90 percent", q.Reserve))
	}
	if q.Limit > 0 && (q.ReserveAlarms < 1 || q.ReserveAlarms > q.Reserve) {
		errs = append(errs, edgeagent.Field("reserve_alarms", "%d is out of range, want 1 to reserve, which is %d", q.ReserveAlarms, q.Reserve))
	}
	_, err := location(q.Timezone)
	return errors.Join(append(errs, err)...)
}

func (c ConnectConfig) validate() error {
	if len(c.Times) == 0 {
		if c.Timezone != "" || c.Alarms != "" {
			return edgeagent.Field("times", "missing key times")
		}
		return nil
	}
	var errs []error
	if len(c.Times) > maxTimes {
		errs = append(errs, edgeagent.Field("times", "%d are too many, at most %d", len(c.Times), maxTimes))
	}
	for i, text := range c.Times {
		_, err := parseSpan(text)
		errs = append(errs, edgeagent.InField("times["+strconv.Itoa(i)+"]", err))
	}
	_, err := location(c.Timezone)
	return errors.Join(append(errs, err, oneOf("alarms", c.Alarms, AlarmsOpenLink, AlarmsWait))...)
}

// location returns a time zone by its name.
func location(name string) (*time.Location, error) {
	if name == "" {
		return time.Local, nil
	}
	l, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC, hinted("timezone", fmt.Errorf("unknown time zone %q", name), "write it like Europe/Berlin or UTC, and see that the package tzdata is installed")
	}
	return l, nil
}

// span is a time of day on some days of the week. It may run into the next day.
type span struct {
	days     [7]bool // on which it begins, Sunday first
	from, to int     // minutes; to may be over 24 h
}

const dayMinutes = 24 * 60

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const spanHint = `write it like "02:00-04:30", "mon-fri 22:00-02:00" or "sat,sun 00:00-24:00"`

// parseSpan reads a time of day.
func parseSpan(text string) (span, error) {
	days, clock, both := strings.Cut(strings.TrimSpace(text), " ")
	if !both {
		days, clock = "sun-sat", days
	}
	s := span{}
	for part := range strings.SplitSeq(strings.ToLower(days), ",") {
		first, last, _ := strings.Cut(part, "-")
		from, to := slices.Index(weekdays, first), slices.Index(weekdays, or(last, first))
		if from < 0 || to < 0 {
			return s, hinted("", fmt.Errorf("unknown days %q", part), spanHint)
		}
		for d := from; ; d = (d + 1) % 7 {
			s.days[d] = true
			if d == to {
				break
			}
		}
	}
	begin, end, ok := strings.Cut(strings.TrimSpace(clock), "-")
	from, okFrom := minutes(begin)
	to, okTo := minutes(end)
	if !ok || !okFrom || !okTo || from == dayMinutes || from == to {
		return s, hinted("", fmt.Errorf("bad time of day %q", clock), spanHint)
	}
	if to < from {
		to += dayMinutes
	}
	s.from, s.to = from, to
	return s, nil
}

// minutes reads hh:mm.
func minutes(text string) (int, bool) {
	h, m, ok := strings.Cut(text, ":")
	hours, err1 := strconv.ParseUint(h, 10, 8)
	mins, err2 := strconv.ParseUint(m, 10, 8)
	n := int(hours)*60 + int(mins)
	return n, ok && err1 == nil && err2 == nil && len(m) == 2 && mins < 60 && n <= dayMinutes
}

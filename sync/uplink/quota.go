package uplink

import (
	"encoding/json"
	"fmt"
	"time"
)

// Memory keeps what must outlive the process: a few hundred bytes. The methods are
// called from one goroutine.
type Memory interface {
	// Load returns what was saved last, nil if nothing was.
	Load() ([]byte, error)
	// Save makes data durable.
	Save(data []byte) error
}

// quota counts the bytes of a month.
//
// What is in memory is a ceiling: it is raised, by a part in 256 of the limit, before
// it is used up. So it is written a few hundred times a month, and a crash makes the
// month look a little more used than it is; less by no more than one message.
type quota struct {
	QuotaConfig
	loc  *time.Location
	used int64
	from time.Time // the month; zero before the clock was right for the first time
	to   time.Time

	saved   int64 // the ceiling in memory
	again   bool  // memory says another month
	retryAt time.Duration
	err     error // of the last attempt to save
}

// kept is what memory holds.
type kept struct {
	Quota struct {
		From time.Time `json:"from,omitzero"`
		Used int64     `json:"used"`
	} `json:"quota"`
}

func newQuota(c QuotaConfig) quota {
	loc, _ := location(c.Timezone)
	return quota{QuotaConfig: c, loc: loc}
}

func (q *quota) bounded() bool { return q.Limit > 0 }

// restore takes what memory holds.
func (q *quota) restore(data []byte) error {
	if len(data) == 0 || !q.bounded() {
		return nil
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return fmt.Errorf("read the quota's state: %w", err)
	}
	q.used, q.from = max(k.Quota.Used, 0), k.Quota.From
	q.saved = q.used
	return nil
}

// month moves the quota to the month of a time that can be trusted. It only moves
// forward; a clock that ran far ahead and came back is believed, with what was used.
func (q *quota) month(wall time.Time) {
	from, to := periodAt(wall, q.ResetDay, q.loc)
	switch {
	case q.from.IsZero(): // what was used before the clock was right counts
	case from.After(q.from):
		q.used, q.saved = 0, 0
	case from.Before(q.from) && q.from.Sub(from) < 62*24*time.Hour:
		_, q.to = periodAt(q.from, q.ResetDay, q.loc)
		return
	}
	q.again = q.again || !from.Equal(q.from)
	q.from, q.to = from, to
}

// margin is how far the ceiling is raised at once.
func (q *quota) margin() int64 { return max(int64(q.Limit)/256, 1) }

// due reports whether memory must be told.
func (q *quota) due(now time.Duration) bool {
	return q.bounded() && (q.used >= q.saved || q.again) && now >= q.retryAt
}

// data returns what memory should hold: a ceiling, or what is used exactly at an
// orderly end.
func (q *quota) data(exact bool) (data []byte, ceiling int64, err error) {
	ceiling = q.used + q.margin()
	if exact {
		ceiling = q.used
	}
	var k kept
	k.Quota.From, k.Quota.Used = q.from, ceiling
	data, err = json.Marshal(k)
	return data, ceiling, err
}

// percent returns how much of the limit is used.
func (q *quota) percent() float64 { return 100 * float64(q.used) / float64(q.Limit) }

// allows says which lanes may still send, and whether the link is there for those
// alone that have something.
func (q *quota) allows() (lanes [4]bool, onDemand bool) {
	if !q.bounded() {
		return [4]bool{true, true, true, true}, false
	}
	used := q.percent()
	below := func(kept float64) bool { return used < 100-kept }
	live := below(float64(q.ReserveAlarms))
	return [4]bool{
		LaneAlarm: below(0), LaneEvent: below(float64(q.ReserveAlarms) / 2),
		LaneLive: live, LaneBacklog: below(float64(q.Reserve)),
	}, !live
}

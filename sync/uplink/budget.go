package uplink

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// budget is what a destination may spend, and when: bytes a second, bytes a month,
// times of day, and what the server asks for. It is part of the machine: no clock, no
// I/O.
type budget struct {
	bucket   bucket
	backlog  bucket // of backlog alone, beside bucket
	quota    quota
	schedule schedule
	alarms   bool // alarms open the link outside of its times

	rate, burst float64 // as configured; 0 = no bound
	hint        hint

	ahead int    // bytes that were paid for and not seen on the wire yet
	wire  uint64 // bytes on the wire, as last seen
	total uint64 // all that was paid for
	moved bool   // something was seen on the wire in this session

	// What holds now.
	lanes    [4]bool
	onDemand bool          // the link is there for lanes that may and have something
	closed   bool          // by the schedule
	until    time.Duration // when to look again
	opensAt  time.Duration // when a schedule that is closed opens, or a quota begins anew
	wall     time.Time     // of opensAt
	allowed  [4]bool       // by the quota
}

// perMessage is what a message costs besides its payload where nobody counts: topic,
// headers of MQTT, TLS and TCP, and the acknowledgement.
const perMessage = 120

func newBudget(c Config) budget {
	b := budget{
		rate: float64(c.Rate), burst: float64(c.Burst),
		quota: newQuota(c.Quota), schedule: newSchedule(c.Connect), alarms: c.Connect.Alarms == AlarmsOpenLink,
		lanes: [4]bool{true, true, true, true}, allowed: [4]bool{true, true, true, true},
	}
	if b.rate > 0 {
		b.bucket = newBucket(b.rate, b.burst)
	}
	if rate := float64(c.BacklogRate); rate > 0 {
		b.backlog = newBucket(rate, rate)
	}
	return b
}

// mostUntil bounds how long a look at the calendar is good: the clock may be stepped.
const mostUntil = time.Minute

// look works out what may be sent. synced says whether wall can be trusted: while it
// cannot, the schedule is open, because the link may be what the time comes from, and
// the month stays what it is.
func (b *budget) look(now time.Duration, wall time.Time, synced bool) {
	if b.quota.bounded() && synced {
		b.quota.month(wall)
	}
	b.lanes, b.onDemand = b.quota.allows()
	b.allowed = b.lanes
	open, change := true, wall.Add(mostUntil)
	if synced {
		open, change = b.schedule.look(wall)
	}
	b.closed = !open
	if b.closed || b.hint.paused(now) {
		b.onDemand = true
		b.lanes = [4]bool{LaneAlarm: b.lanes[LaneAlarm] && (b.alarms || !b.closed)}
	}
	b.until = never
	if b.quota.bounded() || len(b.schedule.spans) > 0 {
		b.until = now + min(change.Sub(wall), mostUntil)
	}
	if b.hint.paused(now) {
		b.until = min(b.until, b.hint.until)
	}
	b.opensAt, b.wall = 0, time.Time{}
	switch {
	case b.closed:
		b.wall = change
	case b.hint.paused(now):
		b.wall = wall.Add(b.hint.until - now)
	case b.onDemand && synced:
		b.wall = b.quota.to
	}
	if !b.wall.IsZero() {
		b.opensAt = now + b.wall.Sub(wall)
	}
}

// pay is called with each message that is sent. Nobody counts the bytes of one lane on
// the wire, so backlog's own bound goes by what a message is taken to cost.
func (b *budget) pay(now time.Duration, l Lane, payload int) {
	n := payload + perMessage
	b.ahead += n
	b.charge(now, n)
	if l == LaneBacklog {
		b.backlog.take(now, n)
	}
}

// charge takes n bytes, or gives them back.
func (b *budget) charge(now time.Duration, n int) {
	b.total += uint64(int64(n))
	b.bucket.take(now, n)
	b.quota.used += int64(n)
	if lanes, _ := b.quota.allows(); lanes != b.allowed {
		b.until = 0 // look again
	}
}

// seen is called with how many bytes were ever on the wire: what was not paid for with
// a message is paid for now, such as keep-alives, handshakes and acknowledgements.
func (b *budget) seen(now time.Duration, wire uint64) {
	more := int(wire - b.wire)
	b.wire = wire
	b.moved = b.moved || more > 0
	if more <= b.ahead {
		b.ahead -= more
		return
	}
	b.charge(now, more-b.ahead)
	b.ahead = 0
}

// settle is called when everything that was sent has a result, or never will: then all
// of it was seen, if anybody counts, and what was paid for beyond that is given back.
// A link that nobody counts, in a session that carries messages, gives nothing back.
func (b *budget) settle(now time.Duration) {
	if b.moved {
		b.charge(now, -b.ahead)
	}
	b.ahead = 0
}

// reserve is what backlog leaves in the bucket for the others: half a second.
func (b *budget) reserve() float64 { return min(b.bucket.rate/2, b.bucket.burst/4) }

// affords reports whether a lane may send now.
func (b *budget) affords(l Lane, now time.Duration) bool {
	return b.lanes[l] && b.bucket.has(now, b.floor(l)) && (l != LaneBacklog || b.backlog.has(now, 0))
}

// affordsAt returns when the rates let a lane send, if that is later than now.
func (b *budget) affordsAt(l Lane, now time.Duration) (time.Duration, bool) {
	at, wait := b.bucket.when(now, b.floor(l))
	if l == LaneBacklog {
		own, ownWait := b.backlog.when(now, 0)
		at, wait = max(at, own), wait || ownWait
	}
	return at, wait
}

// floor is what must be in the bucket for a lane: alarms may run up as much debt as
// there is burst.
func (b *budget) floor(l Lane) float64 {
	switch l {
	case LaneAlarm:
		return -b.bucket.burst
	case LaneBacklog:
		return b.reserve()
	case LaneEvent, LaneLive:
	}
	return 0
}

// target bounds a lane's message so that it does not take more than half a second of
// the rate; 0 = no bound.
func (b *budget) target(l Lane) int {
	n := b.bucket.half()
	if l == LaneBacklog && b.backlog.bounded() && (n == 0 || b.backlog.half() < n) {
		n = b.backlog.half()
	}
	return n
}

// hint is what the server asks for: see [Hint].
type hint struct {
	Hint
	until time.Duration // run time
}

func (h hint) paused(now time.Duration) bool { return now < h.until }

// Hint is a server's request, the JSON of the retained topic …/hint. Nobody signs it,
// so it can only slow an uplink down, and alarms not at all.
type Hint struct {
	// ReconnectSpread is the time over which gateways that lost a healthy session spread
	// their return; at most an hour.
	ReconnectSpread float64 `json:"reconnect_spread_s"`
	// MaxRate bounds the bytes a second; at least 100. 0 = no bound.
	MaxRate float64 `json:"max_rate_Bps"`
	// PauseUntil: only alarms until then; at most a day from now.
	PauseUntil time.Time `json:"pause_until,omitzero"`
}

// Bounds of what a hint may ask for.
const (
	maxHintSpread = time.Hour
	maxHintPause  = 24 * time.Hour
)

// parseHint reads a hint; an empty payload asks for nothing.
func parseHint(payload []byte) (Hint, error) {
	var h Hint
	if len(payload) == 0 {
		return h, nil
	}
	if err := json.Unmarshal(payload, &h); err != nil {
		return Hint{}, fmt.Errorf("read hint: %w", err)
	}
	return h, nil
}

// take takes a hint in place of the one before.
func (b *budget) take(now time.Duration, wall time.Time, h Hint) {
	h.ReconnectSpread = max(0, min(h.ReconnectSpread, maxHintSpread.Seconds()))
	b.hint = hint{Hint: h}
	if pause := h.PauseUntil.Sub(wall); !h.PauseUntil.IsZero() && pause > 0 {
		b.hint.until = now + min(pause, maxHintPause)
	}
	rate := b.rate
	if h.MaxRate > 0 && (rate == 0 || h.MaxRate < rate) {
		rate = max(h.MaxRate, leastRate)
	}
	switch rate {
	case 0:
		b.bucket = bucket{}
	case b.rate:
		b.bucket.set(now, rate, b.burst)
	default:
		b.bucket.set(now, rate, max(8*rate, leastBurst))
	}
	b.until = 0
}

// spread returns the spread that the server asks for.
func (h Hint) spread() time.Duration { return time.Duration(h.ReconnectSpread * float64(time.Second)) }

// quotaWarning is how many percent of the quota are worth a word.
const quotaWarning = 75

// health says what the quota holds back, and that its state is not saved. Times of day
// are as they were wanted.
func (b *budget) health() edgeagent.Health {
	q := &b.quota
	switch {
	case !q.bounded():
		return edgeagent.Health{}
	case q.percent() >= quotaWarning || q.percent() >= float64(100-q.Reserve):
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "uplink-quota",
			Text: fmt.Sprintf("%.0f %% of the month's %s are used: %s", q.percent(), q.Limit, q.waits()),
			Hint: "see docs/how-to/metered-links.md, or raise destinations[].quota.limit",
		}
	case q.err != nil:
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "uplink-quota-state",
			Text: "what is used of the quota is not saved: " + q.err.Error(), Hint: `check the directory beside "buffer.dir" and the disk it is on`,
		}
	}
	return edgeagent.Health{}
}

// waits says what waits for the next month.
func (q *quota) waits() string {
	what := "nothing is sent"
	switch lanes, _ := q.allows(); {
	case lanes[LaneBacklog]:
		return "nothing waits yet"
	case lanes[LaneLive]:
		what = "backlog waits"
	case lanes[LaneEvent]:
		what = "only alarms and events are sent"
	case lanes[LaneAlarm]:
		what = "only alarms are sent"
	}
	if q.to.IsZero() {
		return what
	}
	return what + " until " + q.to.Format("2 Jan")
}

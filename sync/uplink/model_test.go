package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

// handClock is a clock that stands still until it is moved.
type handClock struct{ run time.Duration }

func (c *handClock) Wall() time.Time    { return time.Unix(1_800_000_000, 0).Add(c.run) }
func (c *handClock) Run() time.Duration { return c.run }
func (c *handClock) Synced() bool       { return true }

// model drives the engine with no goroutine: every interleaving of events is one
// that rapid chose and can shrink.
type model struct {
	t     *rapid.T
	e     *engine
	clock *handClock
	log   *memLog
	rx    *receiver

	wanted bool // a connection was asked for and did not come up yet
	up     bool
	hung   bool
	out    []Message // sent in this session, without a result
	lied   bool      // something was accepted that the receiver never got
	cfg    Config
	rnd    *rand.Rand
	moved  map[edgeagent.Epoch]bool // epochs that were found out in earlier processes
	most   int                      // messages in flight that the session allows
	memory paper
}

func (m *model) connect(context.Context) {
	if m.wanted || m.up {
		m.t.Fatal("a second session")
	}
	m.wanted, m.hung = true, false
}

func (m *model) hangUp() { m.hung = true }

func (m *model) send(x Message) {
	if !m.up {
		m.t.Fatal("a message without a session")
	}
	m.out = append(m.out, x)
	b := &m.e.m.budget
	if x.Identity.Count > 0 && b.quota.bounded() {
		if over := 100 * float64(b.quota.used-int64(len(x.Payload)+perMessage)) / float64(b.quota.Limit); over >= m.allowed(x.Lane) {
			m.t.Fatalf("a message of lane %s with %.1f %% of the quota used", x.Lane, over)
		}
	}
	if open, _ := b.schedule.look(m.clock.Wall()); !open && x.Identity.Count > 0 && x.Lane != LaneAlarm && m.clock.run >= b.until+mostUntil {
		m.t.Fatalf("a message of lane %s at %v", x.Lane, m.clock.Wall().UTC())
	}
	if len(m.out) > m.most {
		m.t.Fatalf("%d messages in flight, at most %d are allowed", len(m.out), m.most)
	}
}

// allowed returns up to how many percent of the quota a lane may send.
func (m *model) allowed(l Lane) float64 {
	return map[Lane]float64{LaneAlarm: 100, LaneEvent: 97.5, LaneLive: 95, LaneBacklog: 80}[l]
}

// hint is a server's request.
func (m *model) hint(t *rapid.T) {
	m.e.hint([]byte(rapid.SampledFrom([]string{
		"", "soon", `{"reconnect_spread_s":60}`, `{"max_rate_Bps":2000}`, `{"pause_until":"2027-01-15T09:00:00Z"}`,
	}).Draw(t, "hint")))
	m.pump()
}

// lift takes the bounds away, as the next month, the next night and a satisfied server
// would.
func (m *model) lift() {
	c := m.cfg
	c.Quota, c.Connect, c.Rate = QuotaConfig{}, ConnectConfig{}, 0
	m.cfg = c
	wire := m.e.m.budget.wire
	m.e.m.budget = newBudget(c)
	m.e.m.budget.wire = wire
	m.pump()
}

func newModel(t *rapid.T, cfg Config) *model {
	m := &model{t: t, clock: &handClock{}, log: newLog(), rx: newReceiver(), moved: map[edgeagent.Epoch]bool{}}
	m.log.onAck = func(p place, r edgeagent.Range) {
		if !m.rx.holds(p, r) {
			t.Fatalf("confirmed %s %d to %d, which the receiver does not hold", p.stream, r.From, r.To)
		}
	}
	m.rnd = rand.New(rand.NewPCG(1, 1))
	m.cfg = cfg.WithDefaults()
	m.begin()
	return m
}

// begin is a start of the process.
func (m *model) begin() {
	if m.e != nil {
		for e := range m.e.m.rewound {
			m.moved[e] = true
		}
	}
	m.wanted, m.up, m.hung, m.out = false, false, false, nil
	m.e = newEngine(m.cfg, m.log, newFeed(m.log, nil, ""), m, m.clock, slog.New(slog.DiscardHandler), m.rnd)
	m.e.memory = &m.memory
	if m.cfg.Order == NewestFirst {
		m.e.f.newestFirst()
	}
	m.e.restore()
}

// pump lets the engine do what it can do now.
func (m *model) pump() time.Duration {
	m.e.poll()
	for range 100_000 {
		wait, exit := m.e.step(m.t.Context())
		if exit {
			m.t.Fatal("exit without a stop")
		}
		if wait > 0 {
			return wait
		}
	}
	m.t.Fatal("the engine never rests")
	return 0
}

func (m *model) append(t *rapid.T) {
	s := rapid.SampledFrom(edgeagent.Streams()).Draw(t, "stream")
	age := rapid.SampledFrom([]time.Duration{0, 0, time.Minute, time.Hour}).Draw(t, "age")
	m.log.addAt(s, rapid.IntRange(1, 3000).Draw(t, "n"), m.clock.Wall().Add(-age).UnixNano())
	m.pump()
}

func (m *model) connected(t *rapid.T) {
	if !m.wanted {
		t.Skip("nothing to connect")
	}
	if rapid.IntRange(0, 3).Draw(t, "luck") == 0 {
		m.ended(errors.New("no route"))
		return
	}
	m.comeUp(rapid.SampledFrom([]int{0, 1, 5}).Draw(t, "in flight"), rapid.SampledFrom([]int{0, 9000}).Draw(t, "bytes"))
}

func (m *model) comeUp(inFlight, bytes int) {
	m.wanted, m.up = false, true
	m.most = least(maxInFlight, inFlight)
	m.e.m.connectionUp(m.clock.run, Caps{MaxInFlight: inFlight, MaxMessage: bytes})
	m.pump()
}

func (m *model) ended(err error) {
	m.wanted, m.up, m.hung, m.out = false, false, false, nil
	m.e.m.connectionEnded(m.clock.run, err)
	m.pump()
}

func (m *model) end(t *rapid.T) {
	if !m.up {
		t.Skip("no session")
	}
	m.ended(errDied)
}

// result gives any one message any result.
func (m *model) result(t *rapid.T) {
	if len(m.out) == 0 {
		t.Skip("nothing in flight")
	}
	i := rapid.IntRange(0, len(m.out)-1).Draw(t, "message")
	class := rapid.SampledFrom([]Class{Accepted, Accepted, Accepted, Accepted, NoReceiver, Throttled, ConfigError, Poison, Unknown}).Draw(t, "class")
	lie := m.e.m.cfg.Ack == AckEndToEnd && rapid.IntRange(0, 9).Draw(t, "lie") == 0
	m.answer(i, class, lie)
}

func (m *model) answer(i int, class Class, lie bool) {
	x := m.out[i]
	m.out = slices.Delete(m.out, i, i+1)
	switch {
	case class == Accepted && lie:
		m.lied = true
	case class == Accepted, class == Unknown: // which may have arrived
		m.rx.take(x)
	}
	m.e.m.result(m.clock.run, Result{ID: x.ID, Class: class})
	m.pump()
}

// stray is a result that belongs to nothing.
func (m *model) stray(t *rapid.T) {
	m.e.m.result(m.clock.run, Result{ID: rapid.Uint64Min(1<<40).Draw(t, "id")})
}

// ack is what the receiver says, cut short at times, or something wrong.
func (m *model) ack(t *rapid.T) {
	e := rapid.SampledFrom(m.log.epochs).Draw(t, "epoch")
	a := m.rx.ack(e)
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		a.By = "other"
		a.Have = map[edgeagent.Stream]edgeagent.Ranges{edgeagent.StreamTelemetry: {{From: 1, To: 1}}}
	case 1:
		_, next := m.log.Cursor(edgeagent.StreamAlarm).Head()
		if e == m.log.newest() {
			a.Have = map[edgeagent.Stream]edgeagent.Ranges{edgeagent.StreamAlarm: {{From: 1, To: next}}}
		}
	case 4: // what is held of an epoch that has ended is something else
		if e != m.log.newest() {
			a.Conflict = []edgeagent.Conflict{{Stream: edgeagent.StreamEvent, From: 1, To: 1, Run: 9}}
		}
	case 5, 6:
		from := rapid.Uint64Range(1, 3000).Draw(t, "from")
		s := rapid.SampledFrom(edgeagent.Streams()).Draw(t, "of")
		a.Replay = map[edgeagent.Stream]edgeagent.Ranges{s: {{From: edgeagent.Seq(from), To: edgeagent.Seq(from + 100)}}}
	case 2, 3:
		for s, rs := range a.Have {
			a.Have[s] = rs[:min(len(rs), 1)]
		}
	}
	m.say(a)
}

func (m *model) say(a edgeagent.Ack) {
	b, err := json.Marshal(a)
	if err != nil {
		m.t.Fatal(err)
	}
	m.e.ack(b)
	m.pump()
}

func (m *model) wait(t *rapid.T) {
	m.advance(time.Duration(rapid.Int64Range(1, int64(20*time.Minute)).Draw(t, "d")))
}

func (m *model) advance(d time.Duration) {
	m.clock.run += d
	m.pump()
	if m.hung {
		m.ended(context.Canceled)
	}
}

// restart ends the process, in order or not, and starts it again; a rewind that was
// proved begins an epoch.
func (m *model) restart(*rapid.T) {
	if m.log.Rewound(m.log.newest()) {
		m.log.begin(m.log.newest() + 1)
	}
	m.begin()
	m.pump()
}

func (m *model) epoch(t *rapid.T) {
	if len(m.log.epochs) >= 4 {
		t.Skip("enough epochs")
	}
	m.log.begin(m.log.newest() + 1)
	m.pump()
}

// check holds whatever happened.
func (m *model) check(t *rapid.T) {
	x := m.e.m
	bytes := 0
	for _, f := range x.flights {
		bytes += f.size
	}
	if x.win.messages != len(x.flights) || x.win.bytes != bytes {
		t.Fatalf("window counts %d messages and %d bytes, in flight are %d and %d", x.win.messages, x.win.bytes, len(x.flights), bytes)
	}
	if bytes > maxBytesInFlight+maxMessage {
		t.Fatalf("%d bytes in flight", bytes)
	}
	sum := acceptedSet{}
	for _, e := range x.accepted.entries {
		sum.records += e.records
		sum.bytes += e.size
	}
	if sum.records != x.accepted.records || sum.bytes != x.accepted.bytes {
		t.Fatalf("accepted set counts %d records and %d bytes, holds %d and %d", x.accepted.records, x.accepted.bytes, sum.records, sum.bytes)
	}
	if n := len(x.accepted.entries); n > 2*maxAccepted {
		t.Fatalf("%d messages are accepted and unconfirmed", n)
	}
	if !m.lied && len(m.rx.errs) > 0 {
		t.Fatalf("receiver: %v", m.rx.errs)
	}
}

// settle lets the link work: then everything is confirmed, unless an ack proved
// that the receiver's records are not ours.
func (m *model) settle() {
	m.lift()
	for range 20_000 {
		if m.e.m.halted != nil {
			m.restart(m.t)
		}
		if m.log.unconfirmed() == 0 {
			break
		}
		switch {
		case m.hung:
			m.ended(context.Canceled)
		case m.wanted:
			m.comeUp(0, 0)
		case len(m.out) > 0:
			m.answer(0, Accepted, false)
		default:
			if m.e.m.cfg.Ack == AckEndToEnd && m.up {
				for _, e := range m.log.epochs {
					m.say(m.rx.ack(e))
				}
			}
			if len(m.out) > 0 || m.wanted || m.log.unconfirmed() == 0 {
				continue
			}
			wait := m.pump()
			if wait > 1000*time.Hour {
				m.t.Fatalf("the engine waits for ever, with %d records unconfirmed", m.log.unconfirmed())
			}
			m.advance(wait)
		}
	}
	if n := m.log.unconfirmed(); n != 0 {
		m.t.Fatalf("%d records are unconfirmed though the link works; %d in flight, %d accepted, phase %d", n, len(m.out), len(m.e.m.accepted.entries), m.e.m.phase)
	}
	for p, walls := range m.log.walls {
		if m.e.m.rewound[p.epoch] != nil || m.log.Rewound(p.epoch) || m.moved[p.epoch] {
			continue // they have other numbers
		}
		for _, r := range m.log.dead[p].Missing(edgeagent.Range{From: 1, To: edgeagent.Seq(len(walls))}) {
			if r.Len() > 0 && !m.rx.holds(p, r) {
				m.t.Fatalf("the receiver does not hold all records of %s, such as those in %v", p.stream, r)
			}
		}
	}
}

func TestModel(t *testing.T) {
	metered := e2eConfig()
	metered.Quota = QuotaConfig{Limit: 1 << 20, Timezone: "UTC"}
	metered.Connect = ConnectConfig{Times: []string{"08:00-09:00", "22:00-03:00"}, Timezone: "UTC"}
	metered.Rate, metered.Order = 4000, NewestFirst
	for name, cfg := range map[string]Config{"transport": blockConfig(), "end to end": e2eConfig(), "metered": metered} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				m := newModel(t, cfg)
				m.pump()
				t.Repeat(map[string]func(*rapid.T){
					"append": m.append, "connected": m.connected, "end": m.end, "result": m.result,
					"more results": m.result, "and more": m.result, "stray": m.stray,
					"ack": m.ack, "wait": m.wait, "hint": m.hint, "epoch": m.epoch, "restart": m.restart, "": m.check,
				})
				m.settle()
			})
		})
	}
}

package uplink

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/edgeagent/edgeagent"
)

// machine decides everything about one destination and does nothing itself: it has
// no clock, no goroutine and no I/O. What happened is told to it by one method each;
// next says what to do now. Times are run time (see internal/clock).
type machine struct {
	cfg  Config // with defaults
	back backoff

	phase    phase
	since    time.Duration // of the phase
	retryAt  time.Duration // while backingOff
	lastErr  error         // why the last session or attempt ended
	errAt    time.Duration
	hungUp   error // why we ended the session ourselves
	stopping bool
	stopAt   time.Duration // when to leave without having flushed

	// The session that is up.
	opened  bool // readers are in place
	accepts int  // results of class Accepted
	nextID  uint64
	win     window
	holdAt  time.Duration // when to look at lanes that are held
	parked  bool          // the session ends because there is nothing that it may send
	lanes   [4]lane
	live    live
	credit  int // bytes that backlog may send before live
	flights []*flight
	series  map[edgeagent.Epoch]uint32 // highest id that the session has accepted
	reopen  [5]bool                    // by stream: backlog to be walked anew
	sizeCap int                        // bytes of a message, learnt from a refusal; 0 = none
	largest int                        // bytes of the largest message that was accepted
	asked   time.Duration              // last resending of series that the receiver asked for
	needed  needed
	marks   marks
	replay  replay
	asking  time.Duration // until when the receiver's first word is waited for
	isUp    bool
	broken  error         // why the session must end
	denied  error         // a refusal of this session that a person must mend
	upAt    time.Duration // of this session or the last one

	// Over all sessions.
	accepted   acceptedSet
	confirms   confirms
	epochs     map[edgeagent.Epoch]bool // seen in batches; at most a few
	sentAs     sentSet
	rewound    map[edgeagent.Epoch]error // epochs that a receiver knows otherwise, and how; at most as many as epochs
	proof      proof
	halted     error // why nothing is sent any more
	restarting bool  // the agent was told to start anew because of it
	poison     poison
	greeted    bool // the receiver has said what it holds of the newest epoch, or what it does not
	shorts     int  // sessions in a row that came up and did not last
	budget     budget
	urgent     bool // there is something that may open a link which is there on demand
	sizeHint   int  // bytes of a message, halved when sessions end over larger ones; 0 = no bound known
	count      counters
}

type phase uint8

const (
	backingOff phase = iota // no session; the next attempt is at retryAt
	connecting
	up
	closing // we hung up, and the transport has not returned yet
)

// lane is the state of one priority during a session.
type lane struct {
	ready   bool                  // there may be something to read
	blocked bool                  // waits until series definitions are accepted
	held    bool                  // waits until the times of its records are right
	waits   edgeagent.BatchHeader // of those
	until   time.Duration         // paused after an error or a refusal
	pause   time.Duration         // length of the last pause, for doubling
	err     error                 // why it is paused
}

const never = time.Duration(math.MaxInt64)

const (
	connectLimit = time.Minute     // a transport that does not return by then is hung up
	stopLimit    = 3 * time.Second // for results and alarms at shutdown; the goodbye comes on top
	firstPause   = 10 * time.Second
	firstUnheard = time.Second // pause of a lane that nobody is subscribed to
	longestPause = 5 * time.Minute
)

// newMachine makes the machine of a destination.
func newMachine(cfg Config, rnd *rand.Rand) *machine {
	m := &machine{
		cfg: cfg, back: backoff{ReconnectConfig: cfg.Reconnect, rnd: rnd},
		epochs: map[edgeagent.Epoch]bool{}, sentAs: sentSet{}, rewound: map[edgeagent.Epoch]error{},
	}
	m.budget = newBudget(cfg)
	m.accepted.timeout = cfg.ConfirmTimeout
	m.win.maxMessage = int(cfg.MaxMessage)
	return m
}

// action is what next wants done.
type action struct {
	kind   actionKind
	until  time.Duration // actWait
	lane   Lane          // actRead
	sizes  sizes         // actRead, actSeries
	stream edgeagent.Stream
	epoch  edgeagent.Epoch
	ranges edgeagent.Ranges    // actConfirm
	needed needed              // actSeries
	wanted [5]edgeagent.Ranges // actReplay, by stream
	letter letter              // actBury
}

type actionKind uint8

const (
	actWait     actionKind = iota // until something happens, or a time
	actConnect                    // start a session; connectionUp or connectionEnded follows
	actHangUp                     // end the session; connectionEnded follows
	actOpen                       // make readers for all streams; opened follows
	actReopen                     // walk a stream's backlog anew
	actRaise                      // what live has not sent becomes backlog; raised follows
	actRead                       // read and send one message; sent, empty or failed follows
	actSeries                     // send the series that the receiver asked for
	actMarks                      // send marks; sent and marksSent follow
	actConfirm                    // tell the log; confirmed or confirmFailed follows
	actReplay                     // read again what the receiver asked for; replays follows
	actProve                      // tell the log of a rewind; proven, proofFailed or proofIsOld follows
	actBury                       // give a record up; buried or buryFailed follows
	actRemember                   // save what must outlive the process; remembered follows
	actExit
)

// next returns the one thing to do now. The caller does it, says what came of it,
// and asks again.
func (m *machine) next(now time.Duration) action {
	if c, ok := m.nextForLog(now); ok {
		return c
	}
	var a action
	switch m.phase {
	case backingOff:
		a = m.nextIdle(now)
	case connecting:
		a = m.nextConnecting(now)
	case up:
		a = m.nextUp(now)
	case closing:
		a = action{kind: actWait, until: never}
	}
	if a.kind == actWait {
		a.until = min(a.until, m.confirms.retryAt())
		if m.proof.waiting {
			a.until = min(a.until, m.proof.until)
		}
		if len(m.poison.letters) > 0 {
			a.until = min(a.until, m.poison.until)
		}
	}
	return a
}

// nextForLog returns what the log has to be told: first what is not to be believed,
// for nothing must be confirmed against it.
func (m *machine) nextForLog(now time.Duration) (action, bool) {
	if a, ok := m.nextProof(now); ok {
		return a, true
	}
	if a, ok := m.confirms.next(now); ok {
		return a, true
	}
	if m.budget.quota.due(now) {
		return action{kind: actRemember}, true
	}
	return m.nextLetter(now)
}

func (m *machine) nextIdle(now time.Duration) action {
	if m.stopping {
		return action{kind: actExit}
	}
	if m.halted != nil {
		return action{kind: actWait, until: never}
	}
	if now < m.retryAt {
		return action{kind: actWait, until: m.retryAt}
	}
	if m.budget.onDemand && !m.urgent {
		return action{kind: actWait, until: m.budget.until}
	}
	m.enter(connecting, now)
	m.hungUp = nil
	return action{kind: actConnect}
}

func (m *machine) nextConnecting(now time.Duration) action {
	if m.stopping || m.halted != nil {
		return m.hangUp(now, m.halted)
	}
	if now >= m.since+connectLimit {
		return m.hangUp(now, fmt.Errorf("no connection within %v", connectLimit))
	}
	return action{kind: actWait, until: m.since + connectLimit}
}

func (m *machine) nextUp(now time.Duration) action {
	if len(m.flights) > 0 && now >= m.resultDue() {
		m.win.throttled()
		return m.hangUp(now, fmt.Errorf("no acknowledgement of a message for %v", now-m.flights[0].at))
	}
	if m.broken != nil || m.halted != nil {
		return m.hangUp(now, or(m.broken, m.halted))
	}
	if m.stopping && (now >= m.stopAt || m.flushed(now)) {
		return m.hangUp(now, nil)
	}
	if !m.opened {
		return action{kind: actOpen}
	}
	if m.idleOnDemand(now) {
		m.parked = true
		return m.hangUp(now, nil)
	}
	m.expire(now)
	m.live.tick(now, m.cfg.Linger)
	for s, wanted := range m.reopen {
		if wanted {
			m.reopen[s] = false
			m.lanes[backlogLane(edgeagent.Stream(s))].ready = true
			return action{kind: actReopen, stream: edgeagent.Stream(s)}
		}
	}
	if m.live.late(now, m.cfg.LiveWindow) && !m.stopping {
		return action{kind: actRaise}
	}
	if m.needed.waiting && m.win.room() && !m.stopping && m.budget.affords(LaneEvent, now) {
		n := m.needed
		m.needed, m.asked = needed{}, now
		return action{kind: actSeries, needed: n, sizes: m.sizes(LaneBacklog)}
	}
	if m.marksDue(now) && m.win.room() {
		return action{kind: actMarks, sizes: m.sizes(LaneEvent)}
	}
	if l, ok := m.pick(now); ok {
		return action{kind: actRead, lane: l, sizes: m.sizes(l)}
	}
	if m.replayDue(now) {
		return action{kind: actReplay, epoch: m.replay.epoch, wanted: m.replay.wanted}
	}
	return action{kind: actWait, until: m.deadline(now)}
}

// sizes bounds a message, in bytes of payload.
type sizes struct {
	aim   int // records alone: what suits the link
	whole int // records and definitions of series
	most  int // a record that cannot be cut
}

func (m *machine) sizes(l Lane) sizes {
	z := sizes{min(m.win.target(), m.win.maxMessage), m.win.maxMessage, m.win.maxMessage}
	if m.sizeHint > 0 {
		z.aim = min(z.aim, m.sizeHint)
		if m.cfg.Format != FormatBlock { // definitions of series stay beside their readings
			z.whole = min(z.whole, m.sizeHint)
		}
	}
	if m.sizeCap > 0 {
		z.aim, z.whole = min(z.aim, m.sizeCap), m.sizeCap
	}
	if n := m.budget.target(l); n > 0 {
		z.aim = min(z.aim, n)
	}
	return z
}

// resultDue returns when the oldest message without a result means that the
// session is dead, though it may not know it.
func (m *machine) resultDue() time.Duration {
	return m.flights[0].at + max(m.cfg.AckTimeout, 8*m.win.smoothed)
}

// flushed reports whether everything was done that is worth waiting for at
// shutdown: results of what is on the way, alarms and events.
func (m *machine) flushed(now time.Duration) bool {
	return len(m.flights) == 0 && (!m.opened || !m.marks.waiting && !m.may(LaneAlarm, now) && !m.may(LaneEvent, now))
}

// deadline returns when something falls due without an event.
func (m *machine) deadline(now time.Duration) time.Duration {
	t := min(m.live.dueAt(m.cfg.Linger), m.accepted.dueAt())
	if !m.stopping {
		t = min(t, m.live.lateAt(m.cfg.LiveWindow))
	}
	if len(m.flights) > 0 {
		t = min(t, m.resultDue())
	}
	if m.stopping {
		t = min(t, m.stopAt)
	}
	if m.silent(now) {
		t = min(t, m.asking)
	}
	t = min(t, m.budgetDue(now))
	if m.holding() {
		t = min(t, m.holdAt)
	}
	if m.marks.waiting && m.marks.at > now {
		t = min(t, m.marks.at)
	}
	if m.marks.again > now && !m.stopping {
		t = min(t, m.marks.again)
	}
	if m.unstable(now) {
		t = min(t, m.upAt+m.back.healthyAfter()) // then it can be called stable
	}
	for _, l := range m.lanes {
		if l.ready && l.until > now {
			t = min(t, l.until)
		}
	}
	return t
}

func (m *machine) hangUp(now time.Duration, why error) action {
	m.enter(closing, now)
	m.hungUp = why
	return action{kind: actHangUp}
}

func (m *machine) enter(p phase, now time.Duration) { m.phase, m.since = p, now }

// connectionUp is called when a session is ready for messages.
func (m *machine) connectionUp(now time.Duration, caps Caps) {
	if m.phase != connecting { // we hung up meanwhile
		return
	}
	m.enter(up, now)
	m.count.connects++
	m.isUp, m.upAt = true, now
	m.opened, m.accepts, m.nextID, m.credit = false, 0, 0, 0
	m.lanes, m.reopen, m.live, m.needed, m.marks = [4]lane{}, [5]bool{}, live{}, needed{}, marks{}
	m.replay, m.asking, m.poison.suspects = replay{}, 0, nil
	m.series = map[edgeagent.Epoch]uint32{}
	m.sizeCap, m.largest, m.broken, m.denied, m.parked = 0, 0, nil, nil, false
	if m.cfg.Ack == AckReason && !caps.ReasonCodes {
		m.broken = errNoReasons
	}
	m.win.newSession(least(m.cfg.MaxInFlight, caps.MaxInFlight), least(int(m.cfg.MaxMessage), caps.MaxMessage))
}

// least returns the smaller of a bound and another one that may be unset.
func least(bound, other int) int {
	if other > 0 {
		return min(bound, other)
	}
	return bound
}

// linkBroken is called when the link did not take a message: the session is over,
// whether it knows or not.
func (m *machine) linkBroken(why error) {
	if m.phase == up {
		m.broken = why
	}
}

// learnSize halves the messages when a session ended over one that is larger than
// all that it took. Some servers end the session for a message over their limit, and
// some links never last long enough for a large one: it would be the first of each
// session for ever. A session that lasts allows twice as much.
func (m *machine) learnSize() {
	if len(m.flights) == 0 || m.stopping {
		return
	}
	if size := m.flights[0].size; size > m.largest {
		m.sizeHint = max(size/2, smallestMessage)
	} else {
		m.sizeHint *= 2 // it took larger ones: size is not the reason
	}
	if m.sizeHint >= m.win.maxMessage {
		m.sizeHint = 0
	}
}

// lasted reports whether the session that is up, or the last one, is worth the name.
func (m *machine) lasted(now time.Duration) bool { return now-m.upAt >= m.back.healthyAfter() }

// unstable reports whether sessions come up and do not last.
func (m *machine) unstable(now time.Duration) bool {
	return m.shorts >= manyShorts && (m.phase != up || !m.lasted(now))
}

// manyShorts is how many short sessions in a row are not bad luck.
const manyShorts = 3

var errEnded = errors.New("the server ended the session")

// connectionEnded is called once for each actConnect, when nothing more can come
// from the session.
func (m *machine) connectionEnded(now time.Duration, err error) {
	must(m.phase != backingOff, oneSession)
	if m.hungUp != nil {
		err = m.hungUp
	}
	m.budget.settle(now)
	m.budget.moved = false
	if m.parked && m.hungUp == nil && !m.stopping {
		m.park(now)
		return
	}
	healthy := m.isUp && m.accepts > 0 && m.lasted(now)
	if m.isUp {
		m.shorts++
		if m.lasted(now) {
			m.shorts, m.sizeHint = 0, 2*m.sizeHint
		}
		m.learnSize()
	}
	m.revertFlights()
	m.isUp, m.opened = false, false
	m.enter(backingOff, now)
	if m.stopping {
		return
	}
	if err == nil {
		err = errEnded
	}
	if m.denied != nil { // some servers refuse a message and hang up: the refusal tells more
		err = fmt.Errorf("%w; then the session ended: %w", m.denied, err)
	}
	m.lastErr, m.errAt = err, now
	m.count.failures++
	m.retryAt = now + m.back.after(err, healthy)
}

// revertFlights makes everything without a result unsent again.
func (m *machine) revertFlights() {
	for _, f := range m.flights {
		m.count.resent.add(f.head.Count, f.size)
	}
	clear(m.flights)
	m.flights = m.flights[:0]
	m.win.messages, m.win.bytes = 0, 0
}

// stop makes the machine finish: alarms and events go out if there is a session,
// and then it says goodbye.
func (m *machine) stop(now time.Duration) {
	if !m.stopping {
		m.stopping, m.stopAt = true, now+stopLimit
		m.lastMarks(now)
	}
}

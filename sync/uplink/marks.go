package uplink

import (
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// marksEvery bounds how often marks are sent because they changed.
const marksEvery = 10 * time.Second

// marksRepeat is the longest time between marks that say the same again.
const marksRepeat = time.Hour

// marks is when the receiver is told next how far the streams go and what of them it
// will never get: at the start of a session, on change, and before it ends. What was told
// is told again after a while, twice as long each time: a broker may have acknowledged it
// for a receiver that it did not know yet, or have lost it with one of its nodes, and
// nothing else would show that to either end.
type marks struct {
	waiting bool
	at      time.Duration // not before
	sent    time.Duration // the last ones
	again   time.Duration // when the same is told again; 0: never
	pause   time.Duration // before that; 0 after news
}

func (k *marks) due(now time.Duration) bool { return k.waiting && now >= k.at }

// repeat reports whether what was told is to be told again.
func (k *marks) repeat(now time.Duration) bool { return !k.waiting && k.again > 0 && now >= k.again }

// firstMarks and lastMarks ask for marks at once; marksChanged when it is time.
func (m *machine) firstMarks(now time.Duration) {
	m.marks.waiting, m.marks.at, m.marks.pause = m.cfg.Format == FormatBlock, now, 0
}

func (m *machine) lastMarks(now time.Duration) {
	if m.phase == up && m.opened {
		m.firstMarks(now)
	}
}

func (m *machine) marksChanged() {
	if m.cfg.Format == FormatBlock && m.opened && !m.marks.waiting {
		m.marks.waiting, m.marks.at, m.marks.pause = true, m.marks.sent+marksEvery, 0
	}
}

// marksSent is called after actMarks; more says that not all fitted in one message.
func (m *machine) marksSent(now time.Duration, more bool) {
	k := &m.marks
	k.waiting, k.at, k.sent, k.again = more, now, now, 0
	if m.cfg.Ack == AckEndToEnd && !more {
		k.pause = min(max(2*k.pause, m.cfg.ConfirmTimeout), marksRepeat)
		k.again = now + k.pause
	}
}

// marksDue reports whether a message of marks is due. A repetition waits for what a
// metered link may carry, and for nobody at the end.
func (m *machine) marksDue(now time.Duration) bool {
	return m.marks.due(now) || m.marks.repeat(now) && !m.stopping && m.budget.affords(LaneEvent, now)
}

// greetLimit bounds the wait for the receiver's first word.
const greetLimit = 2 * time.Second

// announce is called when marks were sent. Before the first records of this process
// the receiver has its say, for a moment: what it held before we sent anything is the
// surest sign of a buffer that was put back.
func (m *machine) announce(now time.Duration) {
	if m.cfg.Ack == AckEndToEnd && m.asking == 0 {
		m.asking = now + greetLimit
	}
}

// silent reports whether the receiver's first word is waited for.
func (m *machine) silent(now time.Duration) bool {
	return !m.greeted && now < m.asking && !m.stopping
}

// marksFailed is called when the log could not give them.
func (m *machine) marksFailed(now time.Duration) {
	m.marks.waiting, m.marks.at = !m.stopping, now+marksEvery
}

// marks returns the next message of marks. It is never cut short: a receiver adds up
// what it is told.
func (f *feed) marks(z sizes) (out outgoing, more bool, err error) {
	if len(f.said) == 0 {
		f.marked = f.log.MarksVersion()
		if f.said, err = f.log.Marks(z.whole); err != nil {
			return outgoing{}, false, fmt.Errorf("read marks: %w", err)
		}
	}
	h := f.heads()
	out.head = edgeagent.BatchHeader{Epoch: h.epoch}
	for len(f.said) > 0 && (len(out.payload) == 0 || len(out.payload)+len(f.said[0]) <= z.aim) {
		out.payload = append(out.payload, f.said[0]...)
		f.said = f.said[1:]
	}
	return out, len(f.said) > 0, nil
}

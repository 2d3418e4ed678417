package uplink

import (
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// marksEvery bounds how often marks are sent because they changed.
const marksEvery = 10 * time.Second

// marks is when the receiver is told next how far the streams go and what of them it
// will never get: at the start of a session, on change, and before it ends.
type marks struct {
	waiting bool
	at      time.Duration // not before
	sent    time.Duration // the last ones
}

func (k *marks) due(now time.Duration) bool { return k.waiting && now >= k.at }

// firstMarks and lastMarks ask for marks at once; marksChanged when it is time.
func (m *machine) firstMarks(now time.Duration) {
	m.marks.waiting, m.marks.at = m.cfg.Format == FormatBlock, now
}

func (m *machine) lastMarks(now time.Duration) {
	if m.phase == up && m.opened {
		m.firstMarks(now)
	}
}

func (m *machine) marksChanged() {
	if m.cfg.Format == FormatBlock && m.opened && !m.marks.waiting {
		m.marks.waiting, m.marks.at = true, m.marks.sent+marksEvery
	}
}

// marksSent is called after actMarks; more says that not all fitted in one message.
func (m *machine) marksSent(now time.Duration, more bool) {
	m.marks.waiting, m.marks.at = more, now
	m.marks.sent = now
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

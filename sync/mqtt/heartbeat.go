package mqtt

import (
	"errors"
	"sync/atomic"
	"time"
)

// heartbeat finds a connection that is dead without saying so: one that says nothing
// for the keep-alive is asked, and one that then says nothing for a while is given
// up. So silence is noticed after keepAlive + patience at the latest, whether anything
// is sent meanwhile or not; a peer that answers anything at all is alive.
type heartbeat struct {
	keepAlive time.Duration // between packets in either direction
	patience  time.Duration // for an answer
	began     time.Time

	heard, wrote atomic.Int64 // ns after began, of the last bytes
}

var errSilent = errors.New("the server does not answer a ping")

func newHeartbeat(keepAlive time.Duration) *heartbeat {
	return &heartbeat{keepAlive: keepAlive, patience: max(keepAlive/3, minPingTimeout), began: time.Now()}
}

func (h *heartbeat) noteHeard() { h.heard.Store(int64(time.Since(h.began))) }
func (h *heartbeat) noteWrote() { h.wrote.Store(int64(time.Since(h.began))) }

// run calls ping when it is due, until done is closed (nil) or the peer is dead. ping
// may wait behind a long message: as long as the peer takes bytes it is alive, and the
// write timeout says when it does not.
func (h *heartbeat) run(done <-chan struct{}, ping func() error) error {
	timer := time.NewTimer(h.keepAlive)
	defer timer.Stop()
	var asked, late time.Duration // when an answer was asked for (0 = none is awaited), and until when
	for {
		select {
		case <-done:
			return nil
		case <-timer.C:
		}
		now, heard, wrote := time.Since(h.began), time.Duration(h.heard.Load()), time.Duration(h.wrote.Load())
		due := min(heard, wrote) + h.keepAlive
		switch {
		case asked == 0:
		case heard >= asked:
			asked = 0
		case now >= late:
			return errSilent
		default: // the peer wants to hear from us all the same
			due = wrote + h.keepAlive
		}
		if now >= due {
			if err := ping(); err != nil {
				return err
			}
			if asked == 0 { // an answer counts from before, and is late from after
				asked, late = now, time.Since(h.began)+h.patience
			}
			due = time.Since(h.began) + h.keepAlive
		}
		if asked > 0 {
			due = min(due, late)
		}
		timer.Reset(due - time.Since(h.began))
	}
}

package uplink

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

// numbers is a text format: one line per record, of a length that varies.
type numbers struct {
	width func(n edgeagent.Seq) int
	fail  error
}

func (numbers) Name() string { return FormatLine }

func (f *numbers) Encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	if f.fail != nil {
		return dst, f.fail
	}
	for n := b.First; n <= b.Last(); n++ {
		line := fmt.Sprintf("B %d %d %d 1 0 %s ", b.Epoch, b.Stream, n, device)
		dst = append(dst, line...)
		dst = append(dst, strings.Repeat(".", max(0, f.width(n)-len(line)-1))...)
		dst = append(dst, '\n')
	}
	return dst, nil
}

func textRig(t *testing.T, width func(edgeagent.Seq) int) (*rig, *numbers) {
	cfg := blockConfig()
	cfg.Format, cfg.Ack = FormatLine, AckTransport
	r := newRig(t, cfg)
	f := &numbers{width: width}
	r.o.Format, r.o.Device = f, "gw-17"
	return r, f
}

// Lines that are short at first and then long must not make messages too long.
func TestTextFitsTheMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := textRig(t, func(n edgeagent.Seq) int {
			if n%5000 > 2500 {
				return 1000
			}
			return 60
		})
		r.cfg.MaxMessage = 16 << 10
		r.log.addAt(edgeagent.StreamTelemetry, 20_000, 0)
		r.log.add(edgeagent.StreamTelemetry, 5000)
		r.log.add(edgeagent.StreamEvent, 10)
		r.start()
		r.complete(time.Hour)
		s := r.up.Stats()
		r.end()
		for _, a := range r.rx.arrivals() {
			if a.size > 16<<10 {
				t.Errorf("a message of %d bytes", a.size)
			}
			if !strings.Contains(a.payload, "gw-17") {
				t.Errorf("the device is missing in %.100s", a.payload)
			}
		}
		if r.rx.twice != 0 {
			t.Errorf("%d records came twice", r.rx.twice)
		}
		if s.Sent.Messages > 2000 {
			t.Errorf("%d messages for 25,010 records", s.Sent.Messages)
		}
	})
}

func TestTextSurvivesLostSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := textRig(t, func(edgeagent.Seq) int { return 100 })
		r.cfg.Reconnect = ReconnectConfig{Base: 10 * time.Millisecond, Cap: 20 * time.Millisecond}
		r.tr.dieAfter = func(session int) int { return 1 + session%17 }
		r.log.addAt(edgeagent.StreamTelemetry, 50_000, 0)
		r.start()
		r.complete(time.Hour)
		r.end()
	})
}

func TestRecordThatNeverFits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := textRig(t, func(n edgeagent.Seq) int {
			if n == 3 {
				return 20 << 10
			}
			return 100
		})
		r.cfg.MaxMessage = 16 << 10
		r.log.add(edgeagent.StreamTelemetry, 10)
		r.log.add(edgeagent.StreamAlarm, 2)
		r.start()
		pause(5 * time.Second)
		if h := r.up.Health(); !strings.Contains(h.Text, "over the limit") {
			t.Errorf("health %+v", h)
		}
		pause(10 * time.Minute)
		if n := r.log.Cursor(edgeagent.StreamAlarm).Unconfirmed(); n != 0 {
			t.Errorf("%d alarms wait for it", n)
		}
		level := r.up.Health().Level
		r.end()
		dead := r.log.dead[place{0xe1, edgeagent.StreamTelemetry}]
		if len(dead) != 1 || dead[0] != (edgeagent.Range{From: 3, To: 3}) || !strings.Contains(r.log.causes[0], "over the limit") {
			t.Errorf("dead letters %v, %v", dead, r.log.causes)
		}
		if s := r.up.Stats(); r.log.unconfirmed() != 0 || s.DeadLetters != 1 || level != edgeagent.OK {
			t.Errorf("%d unconfirmed, stats %+v, health %v", r.log.unconfirmed(), s, level)
		}
	})
}

func TestEncoderThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, f := textRig(t, func(edgeagent.Seq) int { return 100 })
		f.fail = errors.New("unknown series")
		r.log.add(edgeagent.StreamTelemetry, 10)
		r.start()
		pause(time.Minute)
		if h := r.up.Health(); !strings.Contains(h.Text, "unknown series") {
			t.Errorf("health %+v", h)
		}
		if n := r.log.unconfirmed(); n != 10 {
			t.Errorf("%d unconfirmed", n)
		}
		r.end()
	})
}

// What a session had read and not sent is read again by the next one.
func TestPiecesEndWithTheirSession(t *testing.T) {
	log := newLog()
	log.addAt(edgeagent.StreamTelemetry, 100, 0)
	f := newFeed(log, &numbers{width: func(edgeagent.Seq) int { return 1000 }}, "gw")
	none := func(edgeagent.Stream) map[edgeagent.Epoch]edgeagent.Ranges {
		return map[edgeagent.Epoch]edgeagent.Ranges{}
	}
	for range 2 {
		f.open(1, none)
		next := edgeagent.Seq(1)
		for next <= 100 {
			out, ok, err := f.message(t.Context(), LaneBacklog, sizes{8 << 10, 8 << 10, 8 << 10}, nil)
			if err != nil || !ok || out.head.First != next || len(out.payload) > 8<<10 {
				t.Fatalf("message from %d of %d bytes, %v, %v, want one from %d", out.head.First, len(out.payload), ok, err, next)
			}
			next = out.head.Last() + 1
			if next > 50 && len(f.pending[LaneBacklog]) > 0 {
				break // in the middle of a batch
			}
		}
	}
}

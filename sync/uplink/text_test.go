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
	width   func(n edgeagent.Seq) int
	fail    error
	written int // records, the same one again counts again
}

func (numbers) Name() string { return FormatLine }

func (f *numbers) Encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	if f.fail != nil {
		return dst, f.fail
	}
	for n := b.First; n <= b.Last(); n++ {
		dst = f.line(dst, b, n, device)
	}
	return dst, nil
}

func (f *numbers) line(dst []byte, b edgeagent.Batch, n edgeagent.Seq, device string) []byte {
	f.written++
	line := fmt.Sprintf("B %d %d %d 1 0 %s ", b.Epoch, b.Stream, n, device)
	dst = append(dst, line...)
	dst = append(dst, strings.Repeat(".", max(0, f.width(n)-len(line)-1))...)
	return append(dst, '\n')
}

// stops is a text format that can stop when it has enough.
type stops struct{ *numbers }

func (f stops) EncodeUpTo(dst []byte, b edgeagent.Batch, device string, size int) ([]byte, int, error) {
	if f.fail != nil {
		return dst, 0, f.fail
	}
	begin := len(dst)
	for n := b.First; n <= b.Last(); n++ {
		end := len(dst)
		if dst = f.line(dst, b, n, device); len(dst)-begin > size && n > b.First {
			return dst[:end], int(n - b.First), nil
		}
	}
	return dst, b.Count, nil
}

func textRig(t *testing.T, width func(edgeagent.Seq) int) (*rig, *numbers) {
	cfg := blockConfig()
	cfg.Format, cfg.Ack = FormatLine, AckTransport
	r := newRig(t, cfg)
	f := &numbers{width: width}
	r.o.Format, r.o.Device = f, "gw-17"
	return r, f
}

// Lines that are short at first and then long must not make messages too long. A format
// that can stop writes hardly any record twice, and a stored block is read once for all
// of its messages.
func TestTextFitsTheMessage(t *testing.T) {
	for _, stop := range []bool{false, true} {
		t.Run(map[bool]string{true: "stops", false: "begins again"}[stop], func(t *testing.T) { textFits(t, stop) })
	}
}

func textFits(t *testing.T, stop bool) {
	bubble(t, func(t *testing.T) {
		r, f := textRig(t, func(n edgeagent.Seq) int {
			if n%5000 > 2500 {
				return 1000
			}
			return 60
		})
		if stop {
			r.o.Format = stops{f}
		}
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
		if stop && f.written > 25_010*5/4 {
			t.Errorf("%d records written, of 25,010", f.written)
		}
		if r.log.decoded > 20 {
			t.Errorf("%d batches read", r.log.decoded)
		}
	})
}

// What was read before a correction shows the times of after it, once it is sent.
func TestTextShowsTimesOfNow(t *testing.T) {
	log := newLog()
	wrong := true
	log.unsynced = func() bool { return wrong }
	log.addAt(edgeagent.StreamTelemetry, 1000, 0)
	f := newFeed(log, stops{&numbers{width: func(edgeagent.Seq) int { return 100 }}}, "gw")
	f.open(1, func(edgeagent.Stream) map[edgeagent.Epoch]edgeagent.Ranges {
		return map[edgeagent.Epoch]edgeagent.Ranges{}
	})
	for next := edgeagent.Seq(1); next <= 1000; {
		out, ok, err := f.message(t.Context(), LaneBacklog, sizes{8 << 10, 8 << 10, 8 << 10}, nil)
		if err != nil || !ok || out.head.First != next || out.head.Unsynced != wrong {
			t.Fatalf("%+v, %v, %v, want one from %d, not synced: %v", out.head, ok, err, next, wrong)
		}
		next, wrong = out.head.Last()+1, false
	}
	if log.decoded != 1 {
		t.Errorf("%d batches read", log.decoded)
	}
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

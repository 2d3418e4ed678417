package uplink

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

// marksOf returns when messages of marks arrived, and what they said first.
func marksOf(r *rig, began time.Time) (at []time.Duration, said []string) {
	for _, a := range r.rx.arrivals() {
		if strings.HasPrefix(a.payload, "M ") {
			at = append(at, a.at.Sub(began))
			said = append(said, strings.TrimRight(strings.SplitN(a.payload, "\n", 2)[0], "."))
		}
	}
	return at, said
}

func TestMarks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.log.marks = 1
		began := time.Now()
		r.start()
		pause(5 * time.Second)
		for range 8 { // at most every ten seconds
			r.log.mark()
			pause(time.Second)
		}
		pause(time.Minute)
		r.log.add(edgeagent.StreamTelemetry, 10) // how far the streams go is no change
		pause(time.Minute)
		r.tr.kill()
		pause(time.Minute)
		r.end()
		at, said := marksOf(r, began)
		if len(at) != 5 {
			t.Fatalf("marks at %v, want at the start, twice on change, in the next session and at the end", at)
		}
		if at[0] > time.Second || at[1] < 10*time.Second || at[2] < at[1]+10*time.Second || at[2] > 21*time.Second {
			t.Errorf("marks at %v", at)
		}
		if said[2] != "M 8 0" {
			t.Errorf("the third marks are %q, want the newest", said[2])
		}
		if first := r.rx.arrivals()[0]; !strings.HasPrefix(first.payload, "M ") || first.lane != LaneEvent {
			t.Errorf("the first message is %.10q on %s", first.payload, first.lane)
		}
	})
}

// Many gaps take several messages; none may be larger than the link likes.
func TestMarksInPieces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.log.marks = 100
		r.log.add(edgeagent.StreamTelemetry, 1000)
		r.start()
		r.complete(time.Minute)
		blocks, most := 0, 0
		for _, a := range r.rx.arrivals() {
			if strings.HasPrefix(a.payload, "M ") {
				blocks += strings.Count(a.payload, "M ")
				most = max(most, a.size)
			}
		}
		if blocks != 100 || most > typicalMessage {
			t.Errorf("%d blocks arrived, the largest message has %d bytes", blocks, most)
		}
		r.end()
	})
}

// Text has no room for marks.
func TestNoMarksAsText(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := textRig(t, func(edgeagent.Seq) int { return 60 })
		r.log.marks = 1
		r.log.add(edgeagent.StreamTelemetry, 10)
		r.start()
		pause(time.Minute)
		r.end()
		if at, _ := marksOf(r, time.Now()); len(at) > 0 {
			t.Errorf("marks at %v", at)
		}
	})
}

// Before the first records of a process the receiver has its say, and no longer than
// two seconds: it may be away.
func TestReceiverSpeaksFirst(t *testing.T) {
	for name, speaks := range map[string]bool{"it does": true, "it is away": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, e2eConfig())
				r.log.marks = 1
				if !speaks {
					r.tr.ackEvery = 0
				} else {
					r.rx.held[place{0xe1, tele}] = nil
				}
				r.log.add(edgeagent.StreamAlarm, 1)
				r.log.add(tele, 100)
				began := time.Now()
				r.start()
				pause(10 * time.Second)
				first, second := time.Duration(0), 0
				for _, a := range r.rx.arrivals() {
					if a.head.Count > 0 && first == 0 {
						first = a.at.Sub(began)
					}
				}
				if speaks && first > 300*time.Millisecond || !speaks && (first < greetLimit || first > greetLimit+time.Second) {
					t.Errorf("the first records came after %v", first)
				}
				r.tr.kill()
				again := len(r.rx.arrivals())
				pause(time.Minute)
				for _, a := range r.rx.arrivals()[again:] {
					if a.head.Count > 0 {
						second++
					}
				}
				if speaks && second > 0 {
					t.Errorf("%d messages came twice", second)
				}
				r.end()
			})
		})
	}
}

// A broker may acknowledge marks that reach nobody: a receiver that it does not know yet,
// a node that dies. They are told again until there is news, less and less often.
func TestMarksAreRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, e2eConfig())
		r.log.marks = 100 // several messages
		began := time.Now()
		r.start()
		pause(12 * time.Hour)
		r.log.mark()
		pause(6 * time.Minute)
		all, _ := marksOf(r, began)
		at := slices.CompactFunc(all, func(a, b time.Duration) bool { return (b - a).Abs() < time.Minute })
		r.end()
		want := []time.Duration{0, 5 * time.Minute, 15 * time.Minute, 35 * time.Minute, 75 * time.Minute}
		for d := 135 * time.Minute; d < 12*time.Hour; d += time.Hour {
			want = append(want, d)
		}
		want = append(want, 12*time.Hour, 12*time.Hour+5*time.Minute)
		if len(at) != len(want) {
			t.Fatalf("marks at %v, want %v", at, want)
		}
		for i := range at {
			if late := at[i] - want[i]; late < 0 || late > time.Minute {
				t.Errorf("marks at %v, want %v", at[i], want[i])
			}
		}
		if len(all) < 2*len(at) {
			t.Errorf("%d messages at %d times, want several each time", len(all), len(at))
		}
	})
}

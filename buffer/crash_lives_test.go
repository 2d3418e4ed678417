package buffer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

// simHub is a receiver: it keeps every record once, by its identity.
type simHub struct {
	records map[simID]simRecord
	held    map[simChain]edgeagent.Ranges
}

func newSimHub() *simHub {
	return &simHub{records: map[simID]simRecord{}, held: map[simChain]edgeagent.Ranges{}}
}

// take takes in what a destination is given, all of it, and fails where a record
// would be taken for one that the hub has, and is another. It returns how many
// were new.
func (h *simHub) take(b *Buffer, dest string, s edgeagent.Stream) (fresh int, err error) {
	c, err := b.Cursor(dest, s)
	if err != nil {
		return 0, err
	}
	_, next := c.Head()
	for r := c.Backlog(next, nil); ; {
		batch, ok, err := r.Next(context.Background(), edgeagent.Limit{Records: 50})
		if err != nil || !ok {
			return fresh, err
		}
		got := simHeld{records: map[edgeagent.Seq]simRecord{}}
		if err := got.take(batch); err != nil {
			return fresh, err
		}
		id := simChain{batch.Epoch, s}
		for seq, x := range got.records {
			known, ok := h.records[simID{id, seq}]
			if ok && known != x {
				return fresh, fmt.Errorf("%w: the hub has number %d as %+v, and is given %+v", errTwice, seq, known, x)
			}
			if !ok {
				fresh++
			}
			h.records[simID{id, seq}] = x
		}
		set := h.held[id]
		set.Add(batch.Range())
		h.held[id] = set
	}
}

// ack tells the buffer what the hub has of its newest epoch.
func (h *simHub) ack(b *Buffer, dest string, s edgeagent.Stream) error {
	return b.Ack(context.Background(), dest, b.Epoch(), s, h.held[simChain{b.Epoch(), s}])
}

// TestOnlineForDaysThenPowerCut: a hub takes everything within a second, for days;
// then the power is cut, with nothing on the disk but what was synced. No reading
// that comes afterwards may be taken for one that the hub has.
func TestOnlineForDaysThenPowerCut(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(simSeed(t), 3))
	w := newSimWorld(rnd, memDir(t))
	w.record()
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	hub := newSimHub()
	for range 300 {
		if err := w.append(edgeagent.StreamTelemetry, 1+rnd.IntN(5)); err != nil {
			t.Fatal(err)
		}
		if _, err := hub.take(w.b, "cloud", edgeagent.StreamTelemetry); err != nil {
			t.Fatal(err)
		}
		if err := hub.ack(w.b, "cloud", edgeagent.StreamTelemetry); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(10 * time.Minute)
	}
	w.b.crash()
	m := newSimMedium(rnd, simLies{})
	m.play(w.tape.steps, len(w.tape.steps))
	w.dir, w.boot, w.o.faults, w.o.headFS = putDown(t, m.cut("none")), 1, nil, nil
	w.o.Identify, w.tape = w.identify(0), nil
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.b.crash()
	before := len(hub.records)
	if err := w.append(edgeagent.StreamTelemetry, 40); err != nil {
		t.Fatal(err)
	}
	if fresh, err := hub.take(w.b, "cloud", edgeagent.StreamTelemetry); err != nil || fresh != 40 {
		t.Errorf("of 40 new readings %d are new to a hub that has %d: %v", fresh, before, err)
	}
}

// TestRestoredADayOld puts a directory back as it was a day ago, and copies one to
// another place. A new epoch begins, in which nothing is confirmed, and the hub
// takes nothing for what it has, also when readings are taken before it is seen
// again.
func TestRestoredADayOld(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("directories have an identity on Linux only")
	}
	for _, how := range []string{"restored in place", "cloned"} {
		t.Run(how, func(t *testing.T) {
			w := newSimWorld(rand.New(rand.NewPCG(simSeed(t), 4)), filepath.Join(t.TempDir(), "buffer"))
			w.o.Identify = systemIdentity
			hub := newSimHub()
			day := func() {
				t.Helper()
				for range 20 {
					if err := w.append(edgeagent.StreamTelemetry, 7); err != nil {
						t.Fatal(err)
					}
				}
			}
			meet := func() (fresh int) {
				t.Helper()
				fresh, err := hub.take(w.b, "cloud", edgeagent.StreamTelemetry)
				if err != nil {
					t.Fatal(err)
				}
				if err := hub.ack(w.b, "cloud", edgeagent.StreamTelemetry); err != nil {
					t.Fatal(err)
				}
				return fresh
			}
			openWorld(t, w)
			day()
			meet()
			day() // not confirmed in the copy
			closeBuffer(t, w.b)
			copied := filepath.Join(t.TempDir(), "copy")
			copyDir(t, w.dir, copied)

			openWorld(t, w)
			old := w.b.Epoch()
			day()
			if fresh := meet(); fresh != 280 {
				t.Errorf("the hub takes %d of 280", fresh)
			}
			closeBuffer(t, w.b)
			if how == "cloned" {
				w.dir = copied
			} else {
				putBack(t, copied, w.dir)
			}
			openWorld(t, w)
			if w.b.Epoch() == old {
				t.Fatal("the old epoch goes on")
			}
			day() // before the hub is seen
			c, err := w.b.Cursor("cloud", edgeagent.StreamTelemetry)
			if err != nil {
				t.Fatal(err)
			}
			if n := c.Unconfirmed(); n < 140+140 {
				t.Errorf("%d are unconfirmed, 140 of the old epoch and 140 new ones must be", n)
			}
			if fresh := meet(); fresh != 140 {
				t.Errorf("of 140 new readings %d are new to the hub", fresh)
			}
			closeBuffer(t, w.b)
		})
	}
}

func openWorld(t *testing.T, w *simWorld) {
	t.Helper()
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.b.crash)
}

// putBack replaces what is in a directory, but not the directory.
func putBack(t *testing.T, from, dir string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	copyDir(t, from, dir)
}

// TestNewestSegmentQuarantined: when nothing is left of the newest segment, the
// numbers that it may have held are not given again, whatever the boot, and the
// ledger bounds how many records are gone.
func TestNewestSegmentQuarantined(t *testing.T) {
	t.Parallel()
	for later, boot := range []string{"same boot", "another boot"} {
		t.Run(boot, func(t *testing.T) {
			w := newSimWorld(rand.New(rand.NewPCG(simSeed(t), 5)), memDir(t))
			openWorld(t, w)
			for range 60 {
				if err := w.append(edgeagent.StreamTelemetry, 40); err != nil {
					t.Fatal(err)
				}
			}
			w.b.crash()
			names, err := filepath.Glob(filepath.Join(w.dir, "telemetry", "*.seg"))
			if err != nil || len(names) == 0 {
				t.Fatal(names, err)
			}
			newest := slices.MaxFunc(names, strings.Compare)
			data, err := os.ReadFile(newest)
			if err != nil {
				t.Fatal(err)
			}
			scramble(w.rnd, data)
			if err := os.WriteFile(newest, data, 0o600); err != nil {
				t.Fatal(err)
			}
			o := w.o
			o.Identify = w.identify(later)
			b, report, err := openSim(w.dir, o)
			if err != nil {
				t.Fatal(err)
			}
			defer b.crash()
			n := simNote{epoch: w.now.epoch, chains: w.now.chains}
			if _, err := w.check(b, report, &n, simTolerance{loss: true, damage: true}); err != nil {
				t.Fatal(err)
			}
			if next := b.Stats().Streams[edgeagent.StreamTelemetry].Next; next != 1+reserveNumbers {
				t.Errorf("numbers go on at %d", next)
			}
			if len(report.Quarantined) != 1 {
				t.Errorf("quarantined: %v", report.Quarantined)
			}
		})
	}
}

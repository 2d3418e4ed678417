package buffer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// simDamages are what cards do to files.
var simDamages = map[string]func(rnd *rand.Rand, b []byte) []byte{
	"flipped bits": func(rnd *rand.Rand, b []byte) []byte {
		for range 1 + rnd.IntN(4) {
			b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		}
		return b
	},
	"zeroed page":   func(rnd *rand.Rand, b []byte) []byte { clear(pageOf(rnd, b)); return b },
	"random page":   func(rnd *rand.Rand, b []byte) []byte { scramble(rnd, pageOf(rnd, b)); return b },
	"random sector": func(rnd *rand.Rand, b []byte) []byte { scramble(rnd, pageOf(rnd, b)[512:1024]); return b },
	"swapped pages": func(rnd *rand.Rand, b []byte) []byte {
		x, y := pageOf(rnd, b), pageOf(rnd, b)
		z := slices.Clone(x)
		copy(x, y)
		copy(y, z)
		return b
	},
	"copied page": func(rnd *rand.Rand, b []byte) []byte { copy(pageOf(rnd, b), pageOf(rnd, b)); return b },
	"truncated":   func(rnd *rand.Rand, b []byte) []byte { return b[:rnd.IntN(len(b))] },
	"emptied":     func(_ *rand.Rand, b []byte) []byte { return b[:0] },
}

// simVictim is a buffer to damage: its files, and the world that it comes from.
type simVictim struct {
	w     *simWorld
	files map[string][]byte
	n     *simNote
	end   string // closed, killed or cut
}

// simVictims makes buffers that ended in three ways.
func simVictims(t *testing.T, rnd *rand.Rand) []simVictim {
	t.Helper()
	var out []simVictim
	for _, end := range []string{"closed", "killed", "cut"} {
		w := simLife(t, rnd, 90)
		v := simVictim{w: w, n: &simNote{epoch: w.now.epoch, chains: w.now.chains, acks: len(w.acks), named: len(w.named)}, end: end}
		switch end {
		case "closed":
			if _, err := w.open(); err != nil {
				t.Fatal(err)
			}
			if err := w.b.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			v.files = takeUp(t, w.dir)
		case "killed":
			v.files = takeUp(t, w.dir)
		case "cut":
			m := newSimMedium(rnd, simLies{})
			m.play(w.tape.steps, len(w.tape.steps))
			v.files = m.cut("any pages")
		}
		out = append(out, v)
	}
	return out
}

// TestDamage damages one file of a buffer in one of eight ways. Whatever it was,
// the buffer must start, in time and without a panic; no value may be wrong and no
// number come twice; all blocks that are still whole must be there, and of all
// other numbers the ledger must speak; and afterwards the buffer must work, and
// find nothing more.
func TestDamage(t *testing.T) {
	t.Parallel()
	const perLife = 125
	rounds, seed, began := simCount(t, "SOAK_DAMAGES", 1000), simSeed(t), time.Now()
	var lost, lossy atomic.Int64
	t.Run("lives", func(t *testing.T) {
		for life := range (rounds + perLife - 1) / perLife {
			t.Run(strconv.Itoa(life), func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(seed, uint64(life)))
				victims := simVictims(t, rnd)
				for i := range perLife {
					what := slices.Sorted(maps.Keys(simDamages))[i%len(simDamages)]
					n, where, err := victims[rnd.IntN(len(victims))].damageOnce(t, rnd, what, false)
					if err != nil {
						t.Fatalf("SOAK_SEED=%d, life %d, round %d, %s in %s: %v", seed, life, i, what, where, err)
					}
					if n > 0 {
						lossy.Add(1)
						lost.Add(int64(n))
					}
				}
			})
		}
	})
	t.Logf("%d damaged buffers, %d of them lost records, %d each; %.1f s",
		rounds, lossy.Load(), lost.Load()/max(lossy.Load(), 1), time.Since(began).Seconds())
}

// damageOnce damages a copy, opens it and holds it against the promise. It returns
// how many records are lost. A naive buffer would throw the damaged file away.
func (v simVictim) damageOnce(t *testing.T, rnd *rand.Rand, what string, naive bool) (lost int, where string, err error) {
	t.Helper()
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(v.files)), func(n string) bool { return len(v.files[n]) == 0 })
	where = names[rnd.IntN(len(names))]
	data := slices.Clone(v.files[where])
	end := max(used(data), simPage) // what lies behind was never written
	bad := simDamages[what](rnd, data[:end:end])
	if len(bad) == end {
		bad = append(bad, data[end:]...)
	}
	files := maps.Clone(v.files)
	files[where] = bad
	dir := putDown(t, files)
	defer os.RemoveAll(dir)
	o := v.w.o
	o.faults, o.headFS, o.Identify = nil, nil, v.w.identify(rnd.IntN(2))
	switch {
	case v.end == "cut":
		o.Identify = v.w.identify(1)
	case v.end == "killed" && isHead(where):
		// As long as the machine runs, the head log is read from its memory, where
		// no card damages it. If one did, it would look like the end of the log.
		o.Identify = v.w.identify(1)
	}
	err = inTime(where+": "+what, func() error {
		whole, err := wholeBlocks(dir)
		if err == nil && naive {
			err = os.Remove(filepath.Join(dir, where))
		}
		if err == nil {
			tol := simTolerance{loss: true, newEpoch: true, damage: true, evictions: v.w.evicts, head: isHead(where)}
			lost, err = v.inspect(dir, o, whole, tol)
		}
		return err
	})
	return lost, where, err
}

// TestDamageSimulatorSees removes damaged segments instead of leaving them to the
// buffer: the simulator must say that whole blocks are lost.
func TestDamageSimulatorSees(t *testing.T) {
	needsPlain(t)
	t.Parallel()
	const n = 40
	rnd := rand.New(rand.NewPCG(simSeed(t), 1))
	victims := simVictims(t, rnd)
	failed, tried := 0, 0
	for range n {
		v := victims[rnd.IntN(len(victims))]
		segments := maps.Clone(v.files)
		maps.DeleteFunc(segments, func(name string, data []byte) bool {
			return data != nil && !strings.HasSuffix(name, ".seg") && name != stateFile
		})
		_, where, err := simVictim{w: v.w, files: segments, n: v.n, end: v.end}.damageOnce(t, rnd, "random sector", true)
		if !strings.HasSuffix(where, ".seg") || v.w.evicts {
			continue
		}
		if tried++; errors.Is(err, errLost) {
			failed++
		}
	}
	t.Logf("%d of %d losses are found out", failed, tried)
	if failed < tried/5 || tried == 0 {
		t.Errorf("only %d of %d losses are found out", failed, tried)
	}
}

// inTime fails when f takes for ever, and says where it hangs.
func inTime(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		return errors.New("hangs: " + what)
	}
}

// inspect opens a damaged buffer of which these blocks are whole.
func (v simVictim) inspect(dir string, o Options, whole map[simChain]edgeagent.Ranges, tol simTolerance) (lost int, err error) {
	b, report, err := openSim(dir, o)
	if err != nil {
		return 0, err
	}
	defer func() { b.crash() }()
	left, err := v.w.check(b, report, v.n, tol)
	if err != nil {
		return 0, fmt.Errorf("%w; report %+v", err, report)
	}
	for id, p := range v.n.chains {
		confirmed := v.w.confirmed(id, v.n)
		for _, seq := range v.w.order[id] {
			_, there := left[id].records[seq]
			if there || seq > p.given || confirmed.Contains(seq) {
				continue
			}
			if lost++; whole[id].Contains(seq) && !v.w.evicts {
				return 0, fmt.Errorf("%w: %s: number %d is in a block that is whole", errLost, id.stream, seq)
			}
		}
	}
	for _, s := range []edgeagent.Stream{edgeagent.StreamTelemetry, edgeagent.StreamAlarm} {
		if _, err := appendSome(context.Background(), b, s, b.Stats().Streams[s].Next, 3); err != nil {
			return 0, fmt.Errorf("append afterwards: %w", err)
		}
	}
	if err := b.Close(context.Background()); err != nil || lost == 0 && v.w.rnd.IntN(2) == 0 {
		return lost, err
	}
	return lost, secondOpen(dir, o, b.Epoch(), left)
}

// secondOpen must find nothing new.
func secondOpen(dir string, o Options, epoch edgeagent.Epoch, left map[simChain]simHeld) error {
	b, report, err := openSim(dir, o)
	if err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	defer b.crash()
	if len(report.Quarantined) > 0 || report.NewEpoch != "" || len(report.Gaps) > 0 || b.Epoch() != epoch {
		return fmt.Errorf("%w: second open: %+v", errAlarm, report)
	}
	for id, was := range left {
		h, err := readChain(b, id)
		if err != nil {
			return fmt.Errorf("second open: %w", err)
		}
		for seq, r := range was.records {
			if h.records[seq] != r {
				return fmt.Errorf("%w: second open: %s: number %d", errLost, id.stream, seq)
			}
		}
	}
	return nil
}

// wholeBlocks returns the numbers that stand in whole blocks of the segments,
// wherever in the files.
func wholeBlocks(dir string) (map[simChain]edgeagent.Ranges, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	if err != nil {
		return nil, err
	}
	out := map[simChain]edgeagent.Ranges{}
	for _, path := range paths {
		if strings.HasPrefix(path, filepath.Join(dir, quarantineDir)) {
			continue
		}
		err := segment.Scan(path, []byte("EB"), block.MaxStored, func(b []byte) int {
			h, err := block.ParseHeader(b)
			if err != nil || h.Size() > len(b) || !h.Stream.Valid() {
				return 0
			}
			if _, err := block.Check(b[:h.Size()]); err != nil {
				return 0
			}
			id := simChain{h.Epoch, h.Stream}
			rs := out[id]
			rs.Add(edgeagent.Range{From: h.First, To: h.Last()})
			out[id] = rs
			return h.Size()
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

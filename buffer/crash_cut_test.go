package buffer

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// simCount returns how often a simulator plays: what the environment variable
// says, else n. See the target soak of the Makefile.
func simCount(t testing.TB, env string, n int) int {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		return n
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// simSeed returns the seed of all simulators: SOAK_SEED, else always the same.
func simSeed(t testing.TB) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SOAK_SEED"), "1"), 10, 64)
	if err != nil {
		t.Fatalf("SOAK_SEED: %v", err)
	}
	return seed
}

// simLife lives a life on a tape.
func simLife(t testing.TB, rnd *rand.Rand, steps int) *simWorld {
	t.Helper()
	w := newSimWorld(rnd, memDir(t))
	w.vouched = rnd.IntN(2) == 0
	w.evicts = rnd.IntN(3) == 0
	w.thin(w.evicts && rnd.IntN(2) == 0)
	if w.thins {
		w.burst = 2500
	}
	w.record()
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	if w.evicts {
		if err := w.ballast(minMaxBytes - 600<<10 - int(w.b.thinReserve())); err != nil {
			t.Fatal(err)
		}
	}
	err := w.live(steps)
	w.b.crash()
	if err != nil {
		t.Fatalf("life: %v", err)
	}
	if err := w.tape.check(); err != nil {
		t.Fatal(err)
	}
	return w
}

// simMoments returns n random steps of a tape, in order.
func simMoments(rnd *rand.Rand, steps, n int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = rnd.IntN(steps + 1)
	}
	slices.Sort(at)
	return at
}

// afterCut opens what a power cut left and holds it against the promise.
func (w *simWorld) afterCut(dir string, n *simNote) (map[simChain]simHeld, error) {
	o := w.o
	o.faults, o.headFS = nil, nil
	o.Identify = w.identify(1)
	b, report, err := openSim(dir, o)
	if err != nil {
		return nil, err
	}
	defer b.crash()
	return w.check(b, report, n, simTolerance{evictions: w.evicts})
}

// fork returns a world that goes on with what a cut left, which is on a disk now.
func (w *simWorld) fork(rnd *rand.Rand, dir string, n *simNote, left map[simChain]simHeld) *simWorld {
	f := newSimWorld(rnd, dir)
	f.boot, f.counter, f.evicts, f.vouched = w.boot+1, w.counter+1_000_000, w.evicts, w.vouched
	f.thin(w.thins)
	f.burst = w.burst
	*f.clock = *w.clock
	f.clock.advance(time.Minute)
	f.offered, f.dests, f.acks = maps.Clone(w.offered), w.dests, slices.Clone(w.acks[:n.acks])
	f.now = simNote{epoch: n.epoch, chains: maps.Clone(n.chains)}
	for _, x := range w.named[:n.named] {
		f.named = append(f.named, x)
		f.highest[x.epoch] = x.id
	}
	for id, seqs := range w.order {
		for _, seq := range seqs {
			// What the first cut took, nobody can ask for after the second.
			if _, there := left[id].records[seq]; there && seq <= n.chains[id].given {
				f.order[id] = append(f.order[id], seq)
				f.accepted[simID{id, seq}] = w.accepted[simID{id, seq}]
			}
		}
	}
	return f
}

// secondLife lets a buffer recover from a cut, go on for a while and be cut again,
// and holds what is left then against the promises of both lives.
func (w *simWorld) secondLife(t testing.TB, files map[string][]byte, n *simNote, left map[simChain]simHeld) error {
	f := w.fork(w.rnd, putDown(t, files), n, left)
	defer os.RemoveAll(f.dir)
	f.record()
	if _, err := f.open(); err != nil {
		return err
	}
	for id, h := range left { // recovered is durable
		p := f.now.chains[id]
		if len(h.ranges) > 0 {
			p.durable = max(p.durable, min(p.given, h.ranges[len(h.ranges)-1].To))
			f.now.chains[id] = p
		}
	}
	err := f.live(8)
	f.b.crash()
	if err != nil {
		return err
	}
	if err := f.tape.check(); err != nil {
		return err
	}
	m := newSimMedium(f.rnd, simLies{})
	m.play(f.tape.steps, f.firstStep+f.rnd.IntN(len(f.tape.steps)-f.firstStep+1))
	again := m.cut(cutModes[f.rnd.IntN(len(cutModes))])
	dir := putDown(t, again)
	defer os.RemoveAll(dir)
	_, err = f.afterCut(dir, m.note)
	return err
}

// TestPowerCut cuts the power at random moments of random lives, and again while
// the buffer recovers from that or goes on. Nothing may be lost but what the
// package says, every number must be accounted for, no content may be wrong, and
// no number may come twice.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	const perLife = 100
	cuts, seed := simCount(t, "SOAK_CUTS", 2000), simSeed(t)
	began := time.Now()
	var rolled atomic.Uint64
	t.Run("lives", func(t *testing.T) {
		for life := range (cuts + perLife - 1) / perLife {
			t.Run(strconv.Itoa(life), func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(seed, uint64(life)))
				w := simLife(t, rnd, 120)
				defer func() { rolled.Add(w.rolled) }()
				m := newSimMedium(rnd, simLies{})
				for i, at := range simMoments(rnd, len(w.tape.steps), perLife) {
					m.play(w.tape.steps, at)
					mode := cutModes[i%len(cutModes)]
					if err := w.cutOnce(t, m, mode, i%4 == 0); err != nil {
						t.Fatalf("SOAK_SEED=%d, life %d, cut %d at step %d of %d, %s left of what was not synced: %v",
							seed, life, i, at, len(w.tape.steps), mode, err)
					}
				}
			})
		}
	})
	if rolled.Load() == 0 && cuts > 200 {
		t.Error("no rollup was ever checked")
	}
	t.Logf("%d power cuts, a quarter of them followed by another, %d readings found again in rollups, %.1f s", cuts, rolled.Load(), time.Since(began).Seconds())
}

func (w *simWorld) cutOnce(t testing.TB, m *simMedium, mode string, again bool) error {
	files := m.cut(mode)
	dir := putDown(t, files)
	defer os.RemoveAll(dir)
	left, err := w.afterCut(dir, m.note)
	if err != nil || !again {
		return err
	}
	if err := w.secondLife(t, files, m.note, left); err != nil {
		return fmt.Errorf("second cut: %w", err)
	}
	return nil
}

// TestPowerCutSimulatorSeesReuse makes the buffer believe that nothing but its
// process died, so that it does without the rest of its reservation: the simulator
// must see that numbers are given again.
func TestPowerCutSimulatorSeesReuse(t *testing.T) {
	t.Parallel()
	const n = 100
	failed := map[string]int{}
	for life := range 4 {
		rnd := rand.New(rand.NewPCG(simSeed(t), uint64(life)))
		w := simLife(t, rnd, 100)
		w.boot-- // identify says the same as before the cut
		m := newSimMedium(rnd, simLies{})
		for _, at := range simMoments(rnd, len(w.tape.steps), n/4) {
			m.play(w.tape.steps, at)
			dir := putDown(t, m.cut("none"))
			if _, err := w.afterCut(dir, m.note); err != nil {
				failed[promiseOf(err)]++
			}
			_ = os.RemoveAll(dir)
		}
	}
	t.Logf("of %d cuts these are found out: %v", n, failed)
	if failed[errTwice.Error()] < n/4 {
		t.Error("the reservation makes no difference to the simulator")
	}
}

// TestPowerCutSimulatorSees lets the disk lie about one kind of sync at a time:
// the simulator must find that out.
func TestPowerCutSimulatorSees(t *testing.T) {
	t.Parallel()
	controls := map[string]simLies{
		"syncs of segments do nothing":    {segments: true},
		"syncs of head files do nothing":  {head: true},
		"syncs of state.db do nothing":    {state: true},
		"syncs of directories do nothing": {dirs: true},
	}
	for name, l := range controls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 100
			failed := map[string]int{}
			sum := 0
			for life := range 4 {
				rnd := rand.New(rand.NewPCG(simSeed(t), uint64(life)))
				w := simLife(t, rnd, 150)
				m := newSimMedium(rnd, l)
				for i, at := range simMoments(rnd, len(w.tape.steps), n/4) {
					m.play(w.tape.steps, at)
					files := m.cut(cutModes[i%len(cutModes)])
					dir := putDown(t, files)
					if _, err := w.afterCut(dir, m.note); err != nil {
						failed[promiseOf(err)]++
						sum++
					}
					_ = os.RemoveAll(dir)
				}
			}
			t.Logf("%d of %d cuts are found out: %v", sum, n, failed)
			if sum < n/5 {
				t.Errorf("only %d of %d cuts are found out", sum, n)
			}
		})
	}
}

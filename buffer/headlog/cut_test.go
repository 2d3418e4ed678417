package headlog

import (
	"context"
	"flag"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

var (
	cuts = flag.Int("cuts", 2000, "power cuts that TestPowerCut makes")
	seed = flag.Uint64("seed", 1, "of the simulated worlds")
)

// TestPowerCut cuts the power at random moments of random lives, and again while
// the log recovers from that. What was synced must be there, bit by bit; of what
// was not, nothing may be there that follows on something that is not; the log
// must go on; and numbers must stay reserved.
func TestPowerCut(t *testing.T) {
	const perLife = 100
	for life := range (*cuts + perLife - 1) / perLife {
		rnd := rand.New(rand.NewPCG(*seed, uint64(life)))
		w := liveLife(t, rnd, 400)
		for i, at := range moments(rnd, len(w.disk.ops), perLife) {
			m := at.upTo(w.disk.ops)
			mode := cutModes[i%len(cutModes)]
			files := m.cut(mode)
			left, err := w.check(files, m.mark, rules{})
			if err != nil {
				t.Fatalf("seed %d, life %d, cut %d after step %d, %s: %v", *seed, life, i, m.steps, mode, err)
			}
			if err := w.goOn(rnd, files, m.mark, left); err != nil {
				t.Fatalf("seed %d, life %d, cut %d after step %d, %s: afterwards: %v", *seed, life, i, m.steps, mode, err)
			}
		}
	}
}

func liveLife(t *testing.T, rnd *rand.Rand, steps int) *world {
	t.Helper()
	w := newWorld(rnd, newSimFS(nil))
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	if err := w.run(steps); err != nil {
		t.Fatal(err)
	}
	if len(w.disk.rewritten) > 0 {
		t.Fatalf("durable pages were written again: %v", w.disk.rewritten)
	}
	return w
}

// moment is a medium that moves on from cut to cut.
type moment struct {
	m  *medium
	to int
}

// moments returns n random moments in order; each is to be used before the next.
func moments(rnd *rand.Rand, steps, n int) []moment {
	at := make([]int, n)
	for i := range at {
		at[i] = rnd.IntN(steps + 1)
	}
	slices.Sort(at)
	m := newMedium(rnd)
	out := make([]moment, n)
	for i := range out {
		out[i] = moment{m, at[i]}
	}
	return out
}

func (x moment) upTo(ops []simOp) *medium {
	for x.m.steps < x.to {
		x.m.do(ops[x.m.steps])
	}
	return x.m
}

// goOn lives a second life on what a cut left, cuts that short too, and looks
// whether both lives' promises are kept.
func (w *world) goOn(rnd *rand.Rand, files map[string][]byte, m mark, left map[int]bool) error {
	second := newWorld(rnd, newSimFS(files))
	second.mark = m
	second.next = w.next
	second.offered = maps.Clone(w.offered)
	for _, f := range w.frames {
		second.accept(f)
	}
	for id := range w.frames {
		if !left[id] { // nobody can ask for it after the second cut
			second.gone[id] = true
		}
	}
	before := len(second.disk.ops)
	if err := second.start(); err != nil {
		return err
	}
	if err := second.run(12); err != nil {
		return err
	}
	if err := second.log.Close(context.Background()); err != nil {
		return err
	}
	medium := newMedium(rnd)
	medium.mark = m
	to := before + rnd.IntN(len(second.disk.ops)-before+1)
	for _, op := range second.disk.ops[:to] {
		medium.do(op)
	}
	if medium.steps <= before {
		medium.mark = m
	}
	_, err := second.check(medium.cut(cutModes[rnd.IntN(len(cutModes))]), medium.mark, rules{})
	return err
}

// TestSimulatorSeesWhatIsWrong switches the log's walls off one by one; each time
// the simulator must find out.
func TestSimulatorSeesWhatIsWrong(t *testing.T) {
	controls := map[string]struct {
		ignoreSyncs bool
		rules       rules
	}{
		"syncs do nothing":              {ignoreSyncs: true},
		"stale frames count":            {rules: rules{trustStale: true}},
		"a bad frame ends the recovery": {rules: rules{noSkip: true}},
	}
	for name, c := range controls {
		t.Run(name, func(t *testing.T) {
			const n = 200
			failed := 0
			for life := range 4 {
				rnd := rand.New(rand.NewPCG(*seed, uint64(life)))
				d := newSimFS(nil)
				d.ignoreSyncs = c.ignoreSyncs
				w := newWorld(rnd, d)
				if err := w.start(); err != nil {
					t.Fatal(err)
				}
				if err := w.run(400); err != nil {
					t.Fatal(err)
				}
				for i, at := range moments(rnd, len(d.ops), n/4) {
					m := at.upTo(d.ops)
					if _, err := w.check(m.cut(cutModes[i%len(cutModes)]), m.mark, c.rules); err != nil {
						failed++
					}
				}
			}
			t.Logf("%d of %d cuts are found out", failed, n)
			if failed < n/10 {
				t.Errorf("only %d of %d cuts are found out", failed, n)
			}
		})
	}
}

package buffer

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// The child that is killed says what it does, a line at a time, and only when the
// buffer has said that it is done:
//
//	epoch E            the buffer is open
//	given S N          all numbers of stream S up to N were given
//	confirm S N        all up to N are about to be confirmed
//
// What a record holds follows from its stream and number, so that the parent needs
// no list of what was appended.

const killEnv = "EDGEAGENT_BUFFER_KILL"

func killOptions() Options {
	o := options()
	o.MaxBytes, o.segment, o.Identify, o.Clock = minMaxBytes, 160<<10, here, clock.Go()
	return o
}

func killValue(s edgeagent.Seq) float64 {
	return math.Float64frombits(uint64(s) * 0x9e3779b97f4a7c15 >> 2)
}

func killReading(s edgeagent.Seq) edgeagent.Reading {
	return edgeagent.Reading{
		Series: series(int(s % 13)), Value: killValue(s), Recorded: true, At: edgeagent.Instant{Wall: int64(s) * 1e6},
	}
}

func killEvent(s edgeagent.Seq) edgeagent.Event {
	id := strconv.FormatUint(uint64(s), 10)
	return edgeagent.Event{
		Kind: edgeagent.KindAlarm, ID: id, N: 1, At: edgeagent.Instant{Wall: int64(s) * 1e6}, Text: strings.Repeat(id, 1+int(s)%20),
	}
}

// TestKillChild is the child; alone it does nothing.
func TestKillChild(t *testing.T) {
	dir, seed, ok := strings.Cut(os.Getenv(killEnv), "|")
	if !ok {
		t.Skip("is started by TestKill9")
	}
	n, err := strconv.ParseUint(seed, 10, 64)
	if err == nil {
		err = appendUntilKilled(t.Context(), dir, rand.New(rand.NewPCG(n, 1)))
	}
	t.Fatal(err)
}

func appendUntilKilled(ctx context.Context, dir string, rnd *rand.Rand) error {
	b, _, err := Open(ctx, dir, killOptions())
	if err != nil {
		return err
	}
	if err := b.Register(Destination{Name: "cloud"}); err != nil {
		return err
	}
	if rnd.IntN(2) == 0 {
		go func() { _ = b.Run(ctx) }()
	}
	say := func(format string, args ...any) error {
		_, err := fmt.Printf(format+"\n", args...)
		return err
	}
	if err := say("epoch %s", b.Epoch()); err != nil {
		return err
	}
	next := map[edgeagent.Stream]edgeagent.Seq{}
	for s, st := range b.Stats().Streams {
		next[s] = st.Next
	}
	for {
		s := simStreams[rnd.IntN(len(simStreams))]
		last, err := appendSome(ctx, b, s, next[s], 1+rnd.IntN(5))
		if err != nil {
			return err
		}
		next[s] = last + 1
		if err := say("given %s %d", s, last); err != nil {
			return err
		}
		switch rnd.IntN(40) {
		case 0:
			err = b.Sync(ctx)
		case 1:
			if err = say("confirm %s %d", s, last); err == nil {
				err = b.Ack(ctx, "cloud", b.Epoch(), s, []edgeagent.Range{{From: 1, To: last}})
			}
		}
		if err != nil {
			return err
		}
	}
}

func appendSome(ctx context.Context, b *Buffer, s edgeagent.Stream, first edgeagent.Seq, n int) (last edgeagent.Seq, err error) {
	if s == edgeagent.StreamTelemetry {
		rs := make([]edgeagent.Reading, n)
		for i := range rs {
			rs[i] = killReading(first + edgeagent.Seq(i))
		}
		last, err = b.Append(ctx, rs)
	} else {
		evs := make([]edgeagent.Event, n)
		for i := range evs {
			evs[i] = killEvent(first + edgeagent.Seq(i))
		}
		last, err = b.AppendEvents(ctx, s, evs)
	}
	if err == nil && last != first+edgeagent.Seq(n)-1 {
		err = fmt.Errorf("%s: last is %d, want %d", s, last, first+edgeagent.Seq(n)-1)
	}
	return last, err
}

// killed is what the children of one directory have said.
type killed struct {
	epoch     string
	given     map[string]edgeagent.Seq
	confirmed map[string]edgeagent.Seq
	lines     int
}

// TestKill9 kills children that append at random moments, several times over one
// directory. What was given must be there, bit by bit and under its number, if it
// was not confirmed; numbers go on without a hole; and nothing is called damaged.
func TestKill9(t *testing.T) {
	t.Parallel()
	const perDir = 5
	var appended atomic.Int64
	kills, seed, began := simCount(t, "SOAK_KILLS", 200), simSeed(t), time.Now()
	t.Run("dirs", func(t *testing.T) {
		for start := 0; start < kills; start += perDir {
			t.Run(strconv.Itoa(start), func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(seed, uint64(start)))
				dir := filepath.Join(memDir(t), "buffer")
				said := killed{given: map[string]edgeagent.Seq{}, confirmed: map[string]edgeagent.Seq{}}
				for i := range min(perDir, kills-start) {
					said.kill(t, dir, rnd)
					if err := said.check(dir, rnd.IntN(2) == 0); err != nil {
						t.Fatalf("SOAK_SEED=%d, kill %d: %v; %+v", seed, start+i, err, said)
					}
				}
				appended.Add(int64(said.lines))
			})
		}
	})
	t.Logf("%d kills, between them %d appends, %.1f s", kills, appended.Load(), time.Since(began).Seconds())
	if appended.Load() < int64(kills) {
		t.Error("the children die too early")
	}
}

// kill starts a child, kills it, and takes in what it said.
func (k *killed) kill(t *testing.T, dir string, rnd *rand.Rand) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", killEnv, dir, rnd.Uint64()))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Duration(5+rnd.IntN(60))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for sc := bufio.NewScanner(out); sc.Scan(); {
		k.take(t, strings.Fields(sc.Text()))
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 || cmd.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v, %s", err, stderr.String())
	}
}

func (k *killed) take(t *testing.T, words []string) {
	t.Helper()
	if len(words) == 2 && words[0] == "epoch" {
		if k.epoch != "" && k.epoch != words[1] {
			t.Fatalf("the epoch was %s and is %s", k.epoch, words[1])
		}
		k.epoch = words[1]
		return
	}
	if len(words) != 3 {
		t.Fatalf("the child said %q", words)
	}
	n, err := strconv.ParseUint(words[2], 10, 64)
	if err != nil {
		t.Fatalf("the child said %q", words)
	}
	k.lines++
	if words[0] == "given" {
		k.given[words[1]] = edgeagent.Seq(n)
	} else {
		k.confirmed[words[1]] = edgeagent.Seq(n)
	}
}

// check opens what is left, holds it against what was said, and closes it in one
// of two ways.
func (k *killed) check(dir string, orderly bool) error {
	b, report, err := Open(context.Background(), dir, killOptions())
	if err != nil {
		return err
	}
	defer b.crash()
	if len(report.Gaps) > 0 || len(b.Gaps()) > 0 || len(report.Quarantined) > 0 || k.epoch != "" && b.Epoch().String() != k.epoch {
		return fmt.Errorf("report %+v, gaps %+v", report, b.Gaps())
	}
	k.epoch = b.Epoch().String()
	for s, st := range b.Stats().Streams {
		h, err := readChain(b, simChain{b.Epoch(), s})
		if err != nil {
			return err
		}
		if st.Next <= k.given[s.String()] {
			return fmt.Errorf("%s goes on at %d", s, st.Next)
		}
		for _, missing := range h.ranges.Missing(edgeagent.Range{From: 1, To: st.Next - 1}) {
			if missing.To > k.confirmed[s.String()] {
				return fmt.Errorf("%s lacks %v", s, missing)
			}
		}
		for seq, got := range h.records {
			r, e := killReading(seq), killEvent(seq)
			want := readingContent(&r, got.run)
			if s != edgeagent.StreamTelemetry {
				want = eventContent(&e, got.run)
			}
			if got != want {
				return fmt.Errorf("%s: number %d holds %+v, want %+v", s, seq, got, want)
			}
		}
	}
	if orderly {
		return b.Close(context.Background())
	}
	return nil
}

package headlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

const childEnv = "EDGEAGENT_HEADLOG_TEST"

// TestMain makes the test binary a child that is there to be killed.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		err := appendForEver(context.Background(), os.Args[1], os.Args[2])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// keep is how many of the newest records the child does not seal.
const keep = 60

// appendForEver recovers what is there and appends records one by one, each of
// which holds its number. It prints each number that was accepted, and before a
// rotation the one up to which all is sealed.
func appendForEver(ctx context.Context, dir, sealedArg string) error {
	n, err := strconv.ParseUint(sealedArg, 10, 64)
	if err != nil {
		return err
	}
	sealed := edgeagent.Seq(n)
	r, err := Recover(dir, Options{Size: MinSize})
	if err != nil {
		return err
	}
	next := sealed + 1
	for f, err := range r.Frames() {
		if err != nil {
			return err
		}
		next = max(next, f.last()+1)
	}
	tails := func(yield func(Frame) bool) {
		for s := sealed + 1; s < next; s++ {
			if !yield(reading(s)) {
				return
			}
		}
	}
	l, err := r.Start(ctx, Head{Epoch: testEpoch}, tails)
	if err != nil {
		return err
	}
	if err := l.Raise(ctx, edgeagent.StreamTelemetry, 1<<32); err != nil {
		return err
	}
	for ; ; next++ {
		err := l.Append(reading(next))
		if errors.Is(err, ErrFull) {
			sealed = next - keep
			fmt.Println("s", uint64(sealed))
			if err = l.Rotate(ctx, tails); err == nil {
				err = l.Append(reading(next)) // before the old file is free
			}
			if err == nil {
				err = l.Release(ctx)
			}
		}
		if err != nil {
			return err
		}
		fmt.Println("a", uint64(next))
		if next%50 == 0 {
			if err := l.Sync(ctx); err != nil {
				return err
			}
		}
	}
}

// TestKill9LosesNothing kills a child at random moments, 50 times over one
// directory. What it was told is accepted must be there, bit by bit, unless it
// was sealed.
func TestKill9LosesNothing(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	var accepted, sealed, rotations edgeagent.Seq
	for i := range 50 {
		a, s := killOnce(t, dir, sealed, rnd)
		if s > sealed {
			rotations++
		}
		accepted, sealed = max(accepted, a), max(sealed, s)
		r, err := Recover(dir, Options{Size: MinSize})
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		got := map[edgeagent.Seq]bool{}
		for f, err := range r.Frames() {
			if err != nil {
				t.Fatalf("kill %d: %v", i, err)
			}
			if !same(f, reading(f.First)) {
				t.Fatalf("kill %d: record %d differs", i, f.First)
			}
			got[f.First] = true
		}
		for s := sealed + 1; s <= accepted; s++ {
			if !got[s] {
				t.Fatalf("kill %d: record %d of %d is lost, sealed are %d; %+v", i, s, accepted, sealed, r.Report())
			}
		}
		if r.Report().Lost > 0 {
			t.Fatalf("kill %d: report %+v", i, r.Report())
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if accepted == 0 || rotations == 0 {
		t.Errorf("%d records were accepted, %d lives rotated", accepted, rotations)
	}
}

// killOnce lets a child append until a random moment, and returns what it said.
func killOnce(t *testing.T, dir string, sealed edgeagent.Seq, rnd *rand.Rand) (accepted, nowSealed edgeagent.Seq) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], dir, strconv.FormatUint(uint64(sealed), 10))
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := rnd.IntN(500) // kill after that many, and up to 1 ms
	sc := bufio.NewScanner(out)
	for i := 0; sc.Scan(); i++ {
		what, num, _ := strings.Cut(sc.Text(), " ")
		n, err := strconv.ParseUint(num, 10, 64)
		if err != nil {
			t.Fatalf("child said %q", sc.Text())
		}
		if what == "a" {
			accepted = edgeagent.Seq(n)
		} else {
			nowSealed = edgeagent.Seq(n)
		}
		if i == lines {
			timer := time.AfterFunc(time.Duration(rnd.IntN(1000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("child ended by itself: %v, %s", err, stderr.String())
	}
	return accepted, nowSealed
}

package buffer

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
)

const childEnv = "EDGEAGENT_BUFFER_TEST"

// TestMain makes the test binary a child that is there to be killed.
func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "open":
		if _, _, err := Open(context.Background(), os.Args[1], options()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "append":
		if err := appendForEver(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	// A life of the model is hundreds of commits: fewer of them than rapid's 100,
	// unless the command line says otherwise.
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func childCommand(ctx context.Context, what string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	return cmd
}

// appendForEver appends readings whose value is their number, and prints the
// number of each append that was accepted. Segments are small, acks come along,
// so that a kill meets rolls, evictions and commits of the state as well.
func appendForEver(dir, seed string) error {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(n, 1))
	ctx := context.Background()
	b, _, err := Open(ctx, dir, options())
	if err != nil {
		return err
	}
	if err := b.Register(Destination{Name: "cloud"}); err != nil {
		return err
	}
	for {
		b.mu.Lock()
		next := b.newest().streams[edgeagent.StreamTelemetry].next
		b.mu.Unlock()
		rs := make([]edgeagent.Reading, 1+rnd.IntN(40))
		for i := range rs {
			rs[i] = edgeagent.Reading{Series: series(rnd.IntN(300)), Value: float64(next) + float64(i), At: edgeagent.Instant{Wall: time.Now().UnixNano()}}
		}
		last, err := b.Append(ctx, rs)
		if err != nil {
			return err
		}
		fmt.Println(uint64(last))
		if rnd.IntN(4) == 0 {
			if err := b.Ack(ctx, "cloud", b.Epoch(), edgeagent.StreamTelemetry, []edgeagent.Range{{From: 1, To: last}}); err != nil {
				return err
			}
		}
	}
}

// TestKill9LosesNothing kills a child at random moments, many times over one
// directory. What the child was told is accepted must be there, under its number,
// with its value, and numbers must go on without a hole.
func TestKill9LosesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "buffer")
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	var accepted edgeagent.Seq
	for i := range 30 {
		accepted = max(accepted, killOnce(t, dir, rnd))
		b, report, err := Open(t.Context(), dir, options())
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		next := b.newest().streams[edgeagent.StreamTelemetry].next
		if next <= accepted || len(report.Gaps) > 0 || len(b.Gaps()) > 0 || len(report.Quarantined) > 0 {
			t.Fatalf("kill %d: accepted %d, next %d, report %+v", i, accepted, next, report)
		}
		got := readAll(t, b, b.Epoch())
		for s := edgeagent.Seq(1); s < next; s++ {
			if v, ok := got[s]; !ok || v != float64(s) {
				t.Fatalf("kill %d: number %d holds %v, %v", i, s, v, ok)
			}
		}
		if i%2 == 0 { // end in both ways
			closeBuffer(t, b)
		} else {
			b.crash()
		}
	}
	if accepted == 0 {
		t.Error("no child ever got to append")
	}
}

// killOnce lets a child append until a random moment, and returns the last number
// that it was told is accepted.
func killOnce(t *testing.T, dir string, rnd *rand.Rand) edgeagent.Seq {
	t.Helper()
	cmd := childCommand(t.Context(), "append", dir, strconv.FormatUint(rnd.Uint64(), 10))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := rnd.IntN(40) // kill after that many appends, and up to 3 ms
	var last edgeagent.Seq
	sc := bufio.NewScanner(out)
	for i := 0; sc.Scan(); i++ {
		n, err := strconv.ParseUint(sc.Text(), 10, 64)
		if err != nil {
			t.Fatalf("child said %q", sc.Text())
		}
		last = edgeagent.Seq(n)
		if i == lines {
			timer := time.AfterFunc(time.Duration(rnd.IntN(3000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("child ended by itself: %v, %s", err, stderr.String())
	}
	return last
}

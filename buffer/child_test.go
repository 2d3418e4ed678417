package buffer

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

const childEnv = "EDGEAGENT_BUFFER_TEST"

// TestMain makes the test binary another process that opens a buffer.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "open" {
		if _, _, err := Open(context.Background(), os.Args[1], options()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
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

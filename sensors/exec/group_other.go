//go:build !unix

package exec

import (
	"fmt"
	"os/exec"
)

func prepare(cmd *exec.Cmd, name string) error {
	if name != "" {
		return fmt.Errorf("run %s: another user is possible on Unix only", cmd.Path)
	}
	cmd.Cancel = func() error { return kill(cmd) }
	return nil
}

func kill(cmd *exec.Cmd) error { return cmd.Process.Kill() }

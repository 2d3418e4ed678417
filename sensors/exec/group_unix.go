//go:build unix

package exec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"github.com/edgeagent/edgeagent"
)

// prepare gives the program a process group of its own, and its user.
func prepare(cmd *exec.Cmd, name string) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return kill(cmd) }
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return fmt.Errorf("run %s: user %s has the number %q", cmd.Path, name, u.Uid)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return fmt.Errorf("run %s: user %s has the group %q", cmd.Path, name, u.Gid)
	}
	if os.Geteuid() == int(uid) {
		return nil
	}
	if os.Geteuid() != 0 {
		return edgeagent.WithHint(fmt.Errorf("run %s as %s: only root may choose the user", cmd.Path, name),
			`remove the key user, or run the agent as root ("edgeagent service install --user root")`)
	}
	// No groups besides its own: those of root stay behind.
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

// kill kills the whole group.
func kill(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

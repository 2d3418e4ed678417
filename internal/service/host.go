package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/edgeagent/edgeagent"
)

// host is the machine to install on; tests make their own.
type host struct {
	platform string // kservice.Platform
	pid1     string // name of process 1, "" where that says nothing
	root     bool
	top      string   // directories above it are taken to be open to everybody
	unitDirs []string // where units are looked for; ours goes to the first

	run      func(ctx context.Context, name string, args ...string) (stdout string, err error)
	control  func(o Options, unit string) manager
	accounts accounts
}

// accounts is the user database.
type accounts interface {
	hasUser(name string) (bool, error)
	// group returns a group's number; ok is false when there is none.
	group(name string) (gid int, ok bool, err error)
	hasTool(name string) bool
}

func (h *host) unitPath(o Options) string { return filepath.Join(h.unitDirs[0], o.Name+".service") }

// busGroups returns wanted, or those of the usual groups of device nodes that
// exist: systemd refuses to start a unit that names another.
func (h *host) busGroups(wanted []string) ([]string, error) {
	if wanted != nil {
		return wanted, nil
	}
	var have []string
	for _, name := range []string{"i2c", "gpio", "dialout"} {
		_, ok, err := h.accounts.group(name)
		if err != nil {
			return nil, fmt.Errorf("look up group %s: %w", name, err)
		}
		if ok {
			have = append(have, name)
		}
	}
	return have, nil
}

// prepareUser makes the user if it is missing and sees that it can start the
// program and read the configuration.
func (h *host) prepareUser(ctx context.Context, o Options) (notes []string, err error) {
	if o.User == "root" {
		return nil, nil
	}
	if err := h.reachable(o.ExecPath, 0o005); err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("user %s could not start %s: %w", o.User, o.ExecPath, err),
			`install the program where everybody may read it: "sudo install -m 755 edgeagent /usr/local/bin/edgeagent"`)
	}
	if err := h.reachable(filepath.Dir(o.ConfigPath), 0o001); err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("user %s could not read %s: %w", o.User, o.ConfigPath, err),
			"keep the configuration in /etc/edgeagent, as "+DefaultConfig)
	}
	known, err := h.accounts.hasUser(o.User)
	if err != nil {
		return nil, fmt.Errorf("look up user %s: %w", o.User, err)
	}
	if !known {
		if err := h.addUser(ctx, o.User); err != nil {
			return nil, err
		}
		notes = append(notes, "created the system user "+o.User)
	}
	shared, err := h.shareConfig(o)
	if shared {
		notes = append(notes, "let the group "+o.User+" read "+o.ConfigPath)
	}
	return notes, err
}

// addUser makes a system user with a group of its own, no home and no shell, with
// the tools of shadow or those of busybox.
func (h *host) addUser(ctx context.Context, name string) error {
	steps := [][]string{{"useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name}}
	if !h.accounts.hasTool("useradd") {
		steps = [][]string{{"addgroup", "-S", name}, {"adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin", "-G", name, name}}
	}
	for _, s := range steps {
		if _, err := h.run(ctx, s[0], s[1:]...); err != nil {
			return edgeagent.WithHint(fmt.Errorf("create user %s: %w", name, err),
				`create it yourself, or run the service as root: "edgeagent service install --user root"`)
		}
	}
	return nil
}

// shareConfig gives the configuration to the user's group if the user could not
// read it otherwise.
func (h *host) shareConfig(o Options) (changed bool, err error) {
	info, err := os.Stat(o.ConfigPath)
	if err != nil {
		return false, err
	}
	gid, ok, err := h.accounts.group(o.User)
	if err != nil || !ok || info.Mode().Perm()&0o004 != 0 {
		return false, err
	}
	if owner, known := groupOf(info); known && owner == gid && info.Mode().Perm()&0o040 != 0 {
		return false, nil
	}
	if err := os.Chown(o.ConfigPath, -1, gid); err != nil {
		return false, fmt.Errorf("share the configuration: %w", err)
	}
	if err := os.Chmod(o.ConfigPath, info.Mode().Perm()|0o040); err != nil {
		return false, fmt.Errorf("share the configuration: %w", err)
	}
	return true, nil
}

// reachable reports whether everybody has the permissions want on path and may
// pass through every directory above it.
func (h *host) reachable(path string, want fs.FileMode) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for p, bits := real, want; ; p, bits = filepath.Dir(p), 0o001 {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&bits != bits {
			return fmt.Errorf("%s has mode %v", p, info.Mode().Perm())
		}
		if p == h.top || filepath.Dir(p) == p {
			return nil
		}
	}
}

type systemAccounts struct{}

func (systemAccounts) hasUser(name string) (bool, error) {
	_, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		return false, nil
	}
	return err == nil, err
}

func (systemAccounts) group(name string) (gid int, ok bool, err error) {
	g, err := user.LookupGroup(name)
	if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	gid, err = strconv.Atoi(g.Gid)
	return gid, err == nil, err
}

func (systemAccounts) hasTool(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// runTool runs a tool of the system; its error bears what the tool said.
func runTool(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(slices.Clip(os.Environ()), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		if said := bytes.TrimSpace(stderr.Bytes()); len(said) > 0 {
			return "", fmt.Errorf("%s: %w: %s", name, err, said[:min(len(said), 500)])
		}
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return stdout.String(), nil
}

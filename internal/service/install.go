package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	kservice "github.com/kardianos/service"

	"github.com/edgeagent/edgeagent"
)

// Installed says what Install has done, for a person to read.
type Installed struct {
	Platform string   // "linux-systemd", "linux-openrc", …
	UnitPath string   // of the unit; "" on other managers
	Unit     string   // its text
	Notes    []string // what else was changed, one sentence each
}

// Install makes the service and has it started at boot; it starts nothing now. It
// refuses what is installed already, and programs and configurations that the
// service's user could not read.
func Install(ctx context.Context, o Options) (Installed, error) {
	return theHost().install(ctx, o)
}

func (h *host) install(ctx context.Context, o Options) (Installed, error) {
	o, err := h.absolute(o)
	if err != nil {
		return Installed{}, err
	}
	if err := h.mayInstall(o); err != nil {
		return Installed{}, err
	}
	done := Installed{Platform: h.platform}
	if h.platform == systemd {
		if o.Groups, err = h.busGroups(o.Groups); err != nil {
			return done, err
		}
		done.UnitPath = h.unitPath(o)
		if done.Unit, err = Render(o); err != nil {
			return done, err
		}
		notes, err := h.prepareUser(ctx, o)
		done.Notes = notes
		if err != nil {
			return done, err
		}
	}
	if err := h.control(o, done.Unit).Install(); err != nil {
		if done.UnitPath != "" {
			// A unit that could not be enabled would be in the way next time.
			err = errors.Join(err, ignoreMissing(os.Remove(done.UnitPath)))
		}
		return done, fmt.Errorf("install service %s: %w", o.Name, err)
	}
	return done, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// absolute fills in o and makes its paths independent of where we are.
func (h *host) absolute(o Options) (Options, error) {
	if o.ExecPath == "" {
		exe, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find this program: %w", err)
		}
		o.ExecPath = exe
	}
	o = o.withDefaults()
	for _, p := range []*string{&o.ExecPath, &o.ConfigPath} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return o, fmt.Errorf("make %s absolute: %w", *p, err)
		}
		*p = abs
	}
	return o, nil
}

// mayInstall looks for everything that would end in half an installation.
func (h *host) mayInstall(o Options) error {
	if err := h.needRoot("install"); err != nil {
		return err
	}
	if err := h.needInit(); err != nil {
		return err
	}
	if h.platform == systemd {
		for _, dir := range h.unitDirs {
			path := filepath.Join(dir, o.Name+".service")
			if _, err := os.Lstat(path); err == nil {
				return edgeagent.WithHint(fmt.Errorf("service %s is installed already: %s", o.Name, path),
					`start it with "edgeagent service start", or remove it first with "edgeagent service uninstall"`)
			}
		}
	}
	if _, err := os.Stat(o.ConfigPath); err != nil {
		return edgeagent.WithHint(fmt.Errorf("the service's configuration: %w", err),
			`write it first, or name another one with "edgeagent service install -c FILE"`)
	}
	return nil
}

func (h *host) needRoot(verb string) error {
	if h.root {
		return nil
	}
	return edgeagent.WithHint(fmt.Errorf("%s needs root", verb), fmt.Sprintf("run with sudo: %q", "sudo edgeagent service "+verb))
}

// needInit refuses containers and chroots. kardianos/service takes everything
// that it does not know for SysV; so that counts only where init is process 1.
func (h *host) needInit() error {
	if h.platform == "" || h.platform == sysv && h.pid1 != "init" {
		return edgeagent.WithHint(errors.New("no service manager found"),
			`run the agent in the foreground: "edgeagent run -c FILE"`)
	}
	return nil
}

// Uninstall stops the service and removes it. Configuration, buffer and user stay:
// what has not been delivered is still in the buffer.
func Uninstall(ctx context.Context, o Options) error { return theHost().uninstall(ctx, o) }

func (h *host) uninstall(ctx context.Context, o Options) error {
	o = o.withDefaults()
	if err := h.change(ctx, "uninstall", o); err != nil {
		return err
	}
	c := h.control(o, "")
	if state, err := h.status(ctx, o); err == nil && state != Stopped {
		if err := c.Stop(); err != nil {
			return fmt.Errorf("stop service %s: %w", o.Name, err)
		}
	}
	if err := c.Uninstall(); err != nil {
		return fmt.Errorf("uninstall service %s: %w", o.Name, err)
	}
	return nil
}

// Start starts the installed service now.
func Start(ctx context.Context, o Options) error {
	return theHost().ask(ctx, "start", o, manager.Start)
}

// Stop stops the service until the next boot or Start.
func Stop(ctx context.Context, o Options) error {
	return theHost().ask(ctx, "stop", o, manager.Stop)
}

// Restart stops the service and starts it anew.
func Restart(ctx context.Context, o Options) error {
	return theHost().ask(ctx, "restart", o, manager.Restart)
}

func (h *host) ask(ctx context.Context, verb string, o Options, do func(manager) error) error {
	o = o.withDefaults()
	if err := h.change(ctx, verb, o); err != nil {
		return err
	}
	if err := do(h.control(o, "")); err != nil {
		hint := `look at "edgeagent service status"`
		if h.platform == systemd {
			hint = fmt.Sprintf("the reason is in %q", "journalctl -u "+o.Name+" -n 30")
		}
		return edgeagent.WithHint(fmt.Errorf("%s service %s: %w", verb, o.Name, err), hint)
	}
	return nil
}

// change is what every verb but status needs: rights and an installed service.
func (h *host) change(ctx context.Context, verb string, o Options) error {
	if err := h.needRoot(verb); err != nil {
		return err
	}
	state, err := h.status(ctx, o)
	if err == nil && state == NotInstalled {
		return edgeagent.WithHint(fmt.Errorf("service %s is not installed", o.Name),
			`install it with "sudo edgeagent service install -c FILE"`)
	}
	return err
}

// State is how a service is doing.
type State string

// The states.
const (
	Running      State = "running"
	Starting     State = "starting" // not ready yet
	Failing      State = "failing"  // it ended and is being started again, or given up
	Stopped      State = "stopped"
	NotInstalled State = "not installed"
)

// ExitCode returns 0 for running, 3 for installed and not running, 1 for not
// installed.
func (s State) ExitCode() int {
	switch s {
	case Running:
		return 0
	case NotInstalled:
		return 1
	default:
		return 3
	}
}

// Status asks the service manager. It needs no root.
func Status(ctx context.Context, o Options) (State, error) {
	return theHost().status(ctx, o.withDefaults())
}

func (h *host) status(ctx context.Context, o Options) (State, error) {
	if err := h.needInit(); err != nil {
		return NotInstalled, err
	}
	if h.platform == systemd {
		out, err := h.run(ctx, "systemctl", "show", "-p", "LoadState,ActiveState,SubState", o.Name+".service")
		if err != nil {
			return NotInstalled, fmt.Errorf("ask systemd for %s: %w", o.Name, err)
		}
		return parseShow(out), nil
	}
	state, err := h.control(o, "").Status()
	switch {
	case errors.Is(err, kservice.ErrNotInstalled):
		return NotInstalled, nil
	case err != nil:
		return NotInstalled, fmt.Errorf("ask for the status of %s: %w", o.Name, err)
	case state == kservice.StatusRunning:
		return Running, nil
	case state == kservice.StatusStopped:
		return Stopped, nil
	}
	return NotInstalled, nil
}

// parseShow reads the answer of systemctl show. "systemctl is-active" would call
// a service that is started again and again "activating".
func parseShow(out string) State {
	v := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		v[key] = value
	}
	switch {
	case v["LoadState"] == "not-found" || v["LoadState"] == "":
		return NotInstalled
	case v["ActiveState"] == "active" || v["ActiveState"] == "reloading":
		return Running
	case v["ActiveState"] == "failed" || strings.HasPrefix(v["SubState"], "auto-restart"):
		return Failing
	case v["ActiveState"] == "activating":
		return Starting
	default:
		return Stopped
	}
}

// platforms by the names of kardianos/service.
const (
	systemd = "linux-systemd"
	sysv    = "unix-systemv"
)

// manager is what is used of a kservice.Service.
type manager interface {
	Install() error
	Uninstall() error
	Start() error
	Stop() error
	Restart() error
	Status() (kservice.Status, error)
}

func newManager(o Options, unit string) manager {
	cfg := &kservice.Config{
		Name: o.Name, DisplayName: "Edge agent", Description: "Edge agent: sensors, rules, crash-safe buffer, sync",
		Executable: o.ExecPath, Arguments: []string{"run", "-c", o.ConfigPath},
		Option: kservice.KeyValue{
			"SystemdScript": unit,
			"RunAtLoad":     true,                                      // launchd
			"OnFailure":     "restart", "OnFailureDelayDuration": "2s", // Windows
		},
	}
	s, err := kservice.New(nil, cfg)
	if err != nil {
		return broken{err}
	}
	return s
}

// broken is a manager that could not be made.
type broken struct{ err error }

func (b broken) Install() error                   { return b.err }
func (b broken) Uninstall() error                 { return b.err }
func (b broken) Start() error                     { return b.err }
func (b broken) Stop() error                      { return b.err }
func (b broken) Restart() error                   { return b.err }
func (b broken) Status() (kservice.Status, error) { return kservice.StatusUnknown, b.err }

func theHost() *host {
	h := &host{
		platform: kservice.Platform(), root: isRoot(),
		unitDirs: []string{"/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"},
		run:      runTool, control: newManager, accounts: systemAccounts{},
	}
	if runtime.GOOS == "linux" {
		comm, _ := os.ReadFile("/proc/1/comm") // unreadable: not init
		h.pid1 = strings.TrimSpace(string(comm))
	}
	return h
}

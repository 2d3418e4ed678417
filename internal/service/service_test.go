package service

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kservice "github.com/kardianos/service"

	"github.com/edgeagent/edgeagent"
)

var update = flag.Bool("update", false, "write golden files")

func TestRender(t *testing.T) {
	tests := []struct {
		name string
		o    Options
	}{
		{"default", Options{ExecPath: "/usr/local/bin/edgeagent", Groups: []string{"i2c", "gpio", "dialout"}}},
		{"odd-paths", Options{
			Name: "edgeagent-2", User: "root",
			ExecPath:   "/opt/My Agent 100%/edgeagent",
			ConfigPath: `/etc/my $HOME/100% \n; 'agent'.yaml`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Render(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tt.name+".service")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s differs (run with -update to accept):\n%s", path, diff)
			}
		})
	}
}

func TestRenderRefuses(t *testing.T) {
	tests := []struct {
		name string
		o    Options
	}{
		{"a name with a line end", Options{Name: "a\nExecStart=/bin/sh"}},
		{"a user with a space", Options{User: "a b"}},
		{"a group with a percent sign", Options{Groups: []string{"i2c", "%i"}}},
		{"a relative program", Options{ExecPath: "edgeagent"}},
		{"a program with a variable", Options{ExecPath: "/opt/$A/edgeagent"}},
		{"a program with a quote", Options{ExecPath: `/opt/"a"/edgeagent`}},
		{"a program with a backslash", Options{ExecPath: `/opt/a\b/edgeagent`}},
		{"a configuration with a line end", Options{ConfigPath: "/etc/a\nb.yaml"}},
		{"a configuration with a zero", Options{ConfigPath: "/etc/a\x00b.yaml"}},
		{"broken utf-8", Options{ConfigPath: "/etc/\xff.yaml"}},
		{"the library's template", Options{ConfigPath: "/etc/{{Name}}.yaml"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if unit, err := Render(tt.o); err == nil {
				t.Errorf("rendered\n%s", unit)
			}
		})
	}
}

// fakeHost is a machine under systemd with nothing installed, and what was asked
// of it. Its root directory is a temporary one.
type fakeHost struct {
	host
	t      *testing.T
	dir    string
	asked  []string
	users  []string
	groups map[string]int
	tools  []string
	show   string // the answer of systemctl show
	fail   error  // of the next verb
	state  kservice.Status
}

const notFound = "LoadState=not-found\nActiveState=inactive\nSubState=dead\n"

func newFakeHost(t *testing.T) *fakeHost {
	t.Helper()
	f := &fakeHost{t: t, dir: openTempDir(t), groups: map[string]int{"i2c": 998, "dialout": 20}, tools: []string{"useradd"}, show: notFound}
	f.host = host{
		platform: systemd, pid1: "systemd", root: true, top: f.dir,
		unitDirs: []string{filepath.Join(f.dir, "etc"), filepath.Join(f.dir, "lib")},
		run:      f.tool, accounts: f,
		control: func(o Options, unit string) manager { return fakeManager{f, o, unit} },
	}
	for _, d := range f.unitDirs {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.write("edgeagent", 0o755)
	f.write("agent.yaml", 0o640)
	return f
}

// openTempDir is a directory that everybody can pass through, unlike t.TempDir.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (f *fakeHost) write(name string, perm fs.FileMode) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, nil, perm); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeHost) options() Options {
	return Options{ExecPath: filepath.Join(f.dir, "edgeagent"), ConfigPath: filepath.Join(f.dir, "agent.yaml")}
}

func (f *fakeHost) tool(_ context.Context, name string, args ...string) (string, error) {
	f.asked = append(f.asked, name+" "+strings.Join(args, " "))
	switch name {
	case "systemctl":
		return f.show, nil
	case "useradd", "adduser", "addgroup":
		// The group of the test's own files, so that chown works without root.
		f.users = append(f.users, DefaultUser)
		f.groups[DefaultUser] = os.Getgid()
	}
	return "", nil
}

func (f *fakeHost) hasUser(name string) (bool, error) { return slices.Contains(f.users, name), nil }
func (f *fakeHost) hasTool(name string) bool          { return slices.Contains(f.tools, name) }
func (f *fakeHost) group(name string) (int, bool, error) {
	gid, ok := f.groups[name]
	return gid, ok, nil
}

type fakeManager struct {
	f    *fakeHost
	o    Options
	unit string
}

func (m fakeManager) ask(verb string) error {
	m.f.asked = append(m.f.asked, verb+" "+m.o.Name)
	return m.f.fail
}

func (m fakeManager) Install() error {
	path := filepath.Join(m.f.unitDirs[0], m.o.Name+".service")
	if err := os.WriteFile(path, []byte(m.unit), 0o644); err != nil {
		return err
	}
	return m.ask("install")
}
func (m fakeManager) Uninstall() error                 { return m.ask("uninstall") }
func (m fakeManager) Start() error                     { return m.ask("start") }
func (m fakeManager) Stop() error                      { return m.ask("stop") }
func (m fakeManager) Restart() error                   { return m.ask("restart") }
func (m fakeManager) Status() (kservice.Status, error) { return m.f.state, m.f.fail }

func TestInstall(t *testing.T) {
	f := newFakeHost(t)
	done, err := f.install(t.Context(), f.options())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin edgeagent",
		"install edgeagent",
	}
	if diff := cmp.Diff(want, f.asked); diff != "" {
		t.Error(diff)
	}
	unit, err := os.ReadFile(done.UnitPath)
	if err != nil || string(unit) != done.Unit || done.Platform != systemd {
		t.Errorf("unit at %q on %s, %v", done.UnitPath, done.Platform, err)
	}
	for _, line := range []string{
		"SupplementaryGroups=i2c dialout\n", "User=edgeagent\n", "Type=notify\n", "Restart=always\n", "RestartSec=2\n",
		"ExecStart=" + f.dir + "/edgeagent run -c " + f.dir + "/agent.yaml\n",
		"ExecStartPre=" + f.dir + "/edgeagent config check " + f.dir + "/agent.yaml\n",
	} {
		if !strings.Contains(string(unit), line) {
			t.Errorf("no %q in\n%s", line, unit)
		}
	}
	if !slices.Contains(done.Notes, "created the system user edgeagent") {
		t.Errorf("notes %q", done.Notes)
	}
}

func TestInstallWithBusybox(t *testing.T) {
	f := newFakeHost(t)
	f.tools = nil
	if _, err := f.install(t.Context(), f.options()); err != nil {
		t.Fatal(err)
	}
	want := []string{"addgroup -S edgeagent", "adduser -S -D -H -h /nonexistent -s /sbin/nologin -G edgeagent edgeagent", "install edgeagent"}
	if diff := cmp.Diff(want, f.asked); diff != "" {
		t.Error(diff)
	}
}

func TestInstallSharesTheConfiguration(t *testing.T) {
	tests := []struct {
		name       string
		perm, want fs.FileMode
		note       bool
	}{
		{"private", 0o600, 0o640, true},
		{"of the group already", 0o640, 0o640, false},
		{"for everybody", 0o644, 0o644, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeHost(t)
			f.write("agent.yaml", tt.perm)
			if err := os.Chown(filepath.Join(f.dir, "agent.yaml"), -1, os.Getgid()); err != nil {
				t.Fatal(err)
			}
			done, err := f.install(t.Context(), f.options())
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(f.dir, "agent.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != tt.want {
				t.Errorf("mode %v, want %v", info.Mode().Perm(), tt.want)
			}
			noted := slices.ContainsFunc(done.Notes, func(n string) bool { return strings.Contains(n, "agent.yaml") })
			if noted != tt.note {
				t.Errorf("notes %q", done.Notes)
			}
		})
	}
}

func TestInstallAsRootMakesNoUser(t *testing.T) {
	f := newFakeHost(t)
	o := f.options()
	o.User = "root"
	if err := os.Chmod(o.ExecPath, 0o700); err != nil {
		t.Fatal(err)
	}
	done, err := f.install(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"install edgeagent"}, f.asked); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(done.Unit, "CapabilityBoundingSet") {
		t.Error("root is left without its capabilities")
	}
}

func TestInstallRefuses(t *testing.T) {
	tests := []struct {
		name       string
		change     func(f *fakeHost, o *Options)
		text, hint string
	}{
		{"without root", func(f *fakeHost, _ *Options) { f.root = false }, "install needs root", "sudo edgeagent service install"},
		{"without a service manager", func(f *fakeHost, _ *Options) { f.platform = "" }, "no service manager", "edgeagent run"},
		{"in a container", func(f *fakeHost, _ *Options) { f.platform, f.pid1 = sysv, "bash" }, "no service manager", "edgeagent run"},
		{"when installed", func(f *fakeHost, _ *Options) { f.write("etc/edgeagent.service", 0o644) }, "installed already", "service uninstall"},
		{"when a package brought it", func(f *fakeHost, _ *Options) { f.write("lib/edgeagent.service", 0o644) }, "installed already", "service start"},
		{"without a configuration", func(_ *fakeHost, o *Options) { o.ConfigPath += ".no" }, "configuration", "service install -c FILE"},
		{"a program that only root can start", func(f *fakeHost, _ *Options) { f.write("edgeagent", 0o700) }, "could not start", "sudo install -m 755"},
		{"a program in a closed directory", func(f *fakeHost, o *Options) {
			if err := os.Mkdir(filepath.Join(f.dir, "root"), 0o700); err != nil {
				f.t.Fatal(err)
			}
			f.write("root/edgeagent", 0o755)
			o.ExecPath = filepath.Join(f.dir, "root", "edgeagent")
		}, "root has mode -rwx------", "sudo install -m 755"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeHost(t)
			o := f.options()
			tt.change(f, &o)
			_, err := f.install(t.Context(), o)
			expectHint(t, err, tt.text, tt.hint)
			if len(f.asked) != 0 {
				t.Errorf("and yet %q", f.asked)
			}
		})
	}
}

// TestFailedInstallLeavesNoUnit: half an installation would refuse the next one.
func TestFailedInstallLeavesNoUnit(t *testing.T) {
	f := newFakeHost(t)
	f.fail = errors.New("systemctl enable: exit status 1")
	done, err := f.install(t.Context(), f.options())
	if !errors.Is(err, f.fail) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(done.UnitPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unit is left behind: %v", err)
	}
}

func TestUninstallStopsFirst(t *testing.T) {
	f := newFakeHost(t)
	f.show = "LoadState=loaded\nActiveState=active\nSubState=running\n"
	if err := f.uninstall(t.Context(), Options{}); err != nil {
		t.Fatal(err)
	}
	var verbs []string
	for _, a := range f.asked {
		if !strings.HasPrefix(a, "systemctl show") {
			verbs = append(verbs, a)
		}
	}
	if diff := cmp.Diff([]string{"stop edgeagent", "uninstall edgeagent"}, verbs); diff != "" {
		t.Error(diff)
	}
	f.show = notFound
	expectHint(t, f.uninstall(t.Context(), Options{}), "not installed", "service install")
}

func TestVerbs(t *testing.T) {
	f := newFakeHost(t)
	f.show = "LoadState=loaded\nActiveState=inactive\nSubState=dead\n"
	if err := f.ask(t.Context(), "start", Options{}, manager.Start); err != nil {
		t.Fatal(err)
	}
	if got := f.asked[len(f.asked)-1]; got != "start edgeagent" {
		t.Errorf("asked for %q", got)
	}
	f.fail = errors.New("exit status 1")
	expectHint(t, f.ask(t.Context(), "restart", Options{}, manager.Restart), "restart service edgeagent: exit status 1", "journalctl -u edgeagent")
	f.root = false
	expectHint(t, f.ask(t.Context(), "stop", Options{}, manager.Stop), "stop needs root", `"sudo edgeagent service stop"`)
}

func TestStatus(t *testing.T) {
	tests := []struct {
		load, active, sub string
		want              State
		code              int
	}{
		{"loaded", "active", "running", Running, 0},
		{"loaded", "reloading", "reload", Running, 0},
		{"loaded", "activating", "start", Starting, 3},
		{"loaded", "activating", "start-pre", Starting, 3},
		{"loaded", "activating", "auto-restart", Failing, 3},
		{"loaded", "activating", "auto-restart-queued", Failing, 3},
		{"loaded", "failed", "failed", Failing, 3},
		{"loaded", "inactive", "dead", Stopped, 3},
		{"loaded", "deactivating", "stop-sigterm", Stopped, 3},
		{"masked", "inactive", "dead", Stopped, 3},
		{"not-found", "inactive", "dead", NotInstalled, 1},
	}
	for _, tt := range tests {
		t.Run(tt.load+" "+tt.active+" "+tt.sub, func(t *testing.T) {
			f := newFakeHost(t)
			f.root = false
			f.show = "LoadState=" + tt.load + "\nActiveState=" + tt.active + "\nSubState=" + tt.sub + "\n"
			got, err := f.status(t.Context(), Options{}.withDefaults())
			if err != nil || got != tt.want || got.ExitCode() != tt.code {
				t.Errorf("%q, exit code %d, %v", got, got.ExitCode(), err)
			}
		})
	}
}

func TestStatusElsewhere(t *testing.T) {
	tests := []struct {
		state kservice.Status
		err   error
		want  State
		fails bool
	}{
		{kservice.StatusRunning, nil, Running, false},
		{kservice.StatusStopped, nil, Stopped, false},
		{kservice.StatusUnknown, kservice.ErrNotInstalled, NotInstalled, false},
		{kservice.StatusUnknown, errors.New("rc-service: exit status 3"), NotInstalled, true},
	}
	for _, tt := range tests {
		f := newFakeHost(t)
		f.platform, f.state, f.fail = "linux-openrc", tt.state, tt.err
		got, err := f.status(t.Context(), Options{}.withDefaults())
		if got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%v, %v: %q, %v", tt.state, tt.err, got, err)
		}
	}
}

func expectHint(t *testing.T, err error, text, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want %q", err, text)
	}
	var h edgeagent.Hinter
	if !errors.As(err, &h) || !strings.Contains(h.Hint(), hint) {
		t.Errorf("error %v has no hint with %q", err, hint)
	}
}

// TestThisMachine: the questions to the real user database and the real tools.
func TestThisMachine(t *testing.T) {
	var a systemAccounts
	if ok, err := a.hasUser("no-such-user-here"); ok || err != nil {
		t.Errorf("no-such-user-here: %v, %v", ok, err)
	}
	if _, ok, err := a.group("no-such-group-here"); ok || err != nil {
		t.Errorf("no-such-group-here: %v, %v", ok, err)
	}
	if out, err := runTool(t.Context(), os.Args[0], "-test.run=^$"); err != nil || !strings.Contains(out, "PASS") {
		t.Errorf("%q, %v", out, err)
	}
	_, err := runTool(t.Context(), os.Args[0], "-no-such-flag")
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("error %v does not bear what the tool said", err)
	}
}

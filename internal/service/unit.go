package service

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
)

// Defaults of Options.
const (
	DefaultName   = "edgeagent"
	DefaultUser   = "edgeagent"
	DefaultConfig = "/etc/edgeagent/agent.yaml"
)

// Options say what to install. The zero value is the usual agent.
type Options struct {
	Name       string // of the service; default DefaultName
	ConfigPath string // default DefaultConfig; relative paths start here and now
	ExecPath   string // default: this program; for Render /usr/bin/edgeagent, as packages have it
	User       string // on systemd; default DefaultUser, "root" for root
	// Groups the user needs for buses; Install takes those of i2c, gpio and
	// dialout that exist.
	Groups []string
}

var nameFormat = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)

// Render returns the systemd unit. It fails on names and paths that a unit cannot
// hold.
func Render(o Options) (string, error) {
	o = o.withDefaults()
	var err error
	if o.ConfigPath, err = filepath.Abs(o.ConfigPath); err != nil {
		return "", fmt.Errorf("make %s absolute: %w", o.ConfigPath, err)
	}
	for _, name := range append([]string{o.Name, o.User}, o.Groups...) {
		if !nameFormat.MatchString(name) {
			return "", fmt.Errorf("bad name %q of a service, user or group, want lower-case letters, digits, - and _", name)
		}
	}
	exec, err := escapeProgram(o.ExecPath)
	if err != nil {
		return "", err
	}
	config, err := escapeArgument(o.ConfigPath)
	if err != nil {
		return "", err
	}
	groups, caps := "", ""
	if len(o.Groups) > 0 {
		groups = "SupplementaryGroups=" + strings.Join(o.Groups, " ") + "\n"
	}
	if o.User != "root" {
		caps = "CapabilityBoundingSet=\n"
	}
	return strings.NewReplacer(
		"@NAME@", o.Name, "@USER@", o.User, "@EXEC@", exec, "@CONFIG@", config,
		"@GROUPS@", groups, "@CAPS@", caps,
	).Replace(unit), nil
}

// unit is the template. StartLimitIntervalSec=0: a gateway in the field has nobody
// to start it again after systemd has given up. No network-online.target: the
// agent starts with the network away, and samples. TimeoutStopSec is more than the
// agent's own deadlines together. ExecStopPost also runs after a crash, which is what
// it is for: outputs then have the level that they had last.
const unit = `# Written by "edgeagent service install". Change it with
# "systemctl edit @NAME@", so that an update does not undo it.
[Unit]
Description=Edge agent: sensors, rules, crash-safe buffer, sync
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User=@USER@
@GROUPS@ExecStartPre=@EXEC@ config check @CONFIG@
ExecStart=@EXEC@ run -c @CONFIG@
ExecStopPost=-@EXEC@ gpio safe -c @CONFIG@
Restart=always
RestartSec=2
TimeoutStartSec=300
TimeoutStopSec=60
StateDirectory=@NAME@
StateDirectoryMode=0750
RuntimeDirectory=@NAME@
UMask=0027
@CAPS@NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=multi-user.target
`

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.ConfigPath == "" {
		o.ConfigPath = DefaultConfig
	}
	if o.User == "" {
		o.User = DefaultUser
	}
	if o.ExecPath == "" {
		o.ExecPath = "/usr/bin/edgeagent"
	}
	return o
}

// escapeArgument writes s as one word of a command line of systemd: quoted, with
// its escapes, specifiers and variables taken away.
func escapeArgument(s string) (string, error) {
	if err := checkPath(s); err != nil {
		return "", err
	}
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(s)
	if strings.ContainsAny(s, " \t;'\"\\") {
		return `"` + s + `"`, nil
	}
	return s, nil
}

// escapeProgram is escapeArgument for the first word. systemd refuses quotes and
// backslashes in it whatever the quoting, and replaces specifiers but no
// variables, so that a doubled $ would stay doubled.
func escapeProgram(s string) (string, error) {
	if strings.ContainsAny(s, "$\"'\\") {
		return "", badPath(s, "systemd starts no program with a quote, a backslash or a $ in its path")
	}
	return escapeArgument(s)
}

func checkPath(s string) error {
	switch {
	case !filepath.IsAbs(s):
		return badPath(s, "not an absolute path")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return badPath(s, "control characters or broken UTF-8 in a path")
	case strings.Contains(s, "{{"):
		return badPath(s, `"{{" in a path`) // the template language of kardianos/service
	}
	return nil
}

func badPath(path, why string) error {
	return edgeagent.WithHint(fmt.Errorf("%s: %q", why, path),
		`install the program as /usr/local/bin/edgeagent and the configuration as `+DefaultConfig)
}

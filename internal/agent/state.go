package agent

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/edgeagent/edgeagent"
)

// StateDir returns where the agent keeps its state when the configuration names no
// directory: $STATE_DIRECTORY, else /var/lib/edgeagent as root, else
// $XDG_STATE_HOME/edgeagent or ~/.local/state/edgeagent.
func StateDir() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return filepath.SplitList(dir)[0], nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/edgeagent", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "edgeagent"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", edgeagent.WithHint(errors.New("no directory for state: neither $STATE_DIRECTORY nor $HOME is set"),
			`set "buffer.dir" in the configuration`)
	}
	return filepath.Join(home, ".local", "state", "edgeagent"), nil
}

package api

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// The names of the sockets within a runtime directory.
const (
	agentSocket = "agent.sock"
	demoSocket  = "demo.sock"
)

// systemRuntimeDir is where the system service has its socket.
const systemRuntimeDir = "/run/edgeagent"

// runtimeDirs returns the directories in which a socket may be, best first:
// systemd's $RUNTIME_DIRECTORY, /run/edgeagent, $XDG_RUNTIME_DIR/edgeagent; where
// there is neither, on a laptop, the user's own temporary directory.
func runtimeDirs(getenv func(string) string, goos string) []string {
	var dirs []string
	// systemd separates several RuntimeDirectory= by colons; the first is ours.
	if dir, _, _ := strings.Cut(getenv("RUNTIME_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		dirs = append(dirs, dir)
	}
	if goos != "windows" && goos != "darwin" {
		dirs = append(dirs, systemRuntimeDir)
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		dirs = append(dirs, filepath.Join(dir, "edgeagent"))
	}
	// Linux has a /tmp that everybody shares; a name in it could be anybody's.
	if goos == "windows" || goos == "darwin" {
		dirs = append(dirs, filepath.Join(os.TempDir(), "edgeagent"))
	}
	return dirs
}

// ServerSocket returns where an agent puts its socket: path if it is not empty,
// else agent.sock in the first runtime directory that it can write to. It makes
// the directory.
func ServerSocket(path string) (string, error) {
	return serverSocket(path, runtimeDirs(os.Getenv, goos))
}

func serverSocket(path string, dirs []string) (string, error) {
	if path != "" {
		return path, checkSocketPath(path)
	}
	if dir := firstWritable(dirs); dir != "" {
		path = filepath.Join(dir, agentSocket)
		return path, checkSocketPath(path)
	}
	return "", edgeagent.WithHint(
		fmt.Errorf("no writable directory for the socket, tried %s", strings.Join(dirs, ", ")),
		`set "api.socket" to a path that the agent can write, or run it as a service: "edgeagent service install"`)
}

// DemoSocket returns where a demo puts its socket, so that "edgeagent status"
// finds it: demo.sock in the first runtime directory that is writable, or "" when
// there is none.
func DemoSocket() string {
	dir := firstWritable(runtimeDirs(os.Getenv, goos))
	if path := filepath.Join(dir, demoSocket); dir != "" && checkSocketPath(path) == nil {
		return path
	}
	return ""
}

// ClientSockets returns where to look for an agent: only at path if it is not
// empty, else at every place of [ServerSocket], in its order, and then at the
// demo's socket in the same directories.
func ClientSockets(path string) []string {
	return clientSockets(path, runtimeDirs(os.Getenv, goos))
}

func clientSockets(path string, dirs []string) []string {
	if path != "" {
		return []string{path}
	}
	var out []string
	for _, name := range []string{agentSocket, demoSocket} {
		for _, dir := range dirs {
			if p := filepath.Join(dir, name); !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func firstWritable(dirs []string) string {
	for _, dir := range dirs {
		if writable(dir) == nil {
			return dir
		}
	}
	return ""
}

// writable makes dir and tries: permissions, read-only mounts and sandboxes all
// look different, a file does not.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

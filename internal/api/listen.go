package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/edgeagent/edgeagent"
)

const goos = runtime.GOOS

// listenSocket binds the unix socket at path with mode 0660. A socket that a dead
// agent left is taken over, but only after a connect was refused: a file that is
// no socket and a socket that answers are left alone.
func listenSocket(ctx context.Context, path string) (*ownSocket, error) {
	if err := clearStale(ctx, path); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("listen on socket: %w", err),
			`set "api.socket" to a path in a directory that exists and that the agent can write`)
	}
	s := &ownSocket{Listener: l, path: path}
	// Whoever takes the path over after us must keep it: Close compares.
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on socket: %w", err), s.Close())
	}
	s.info, err = os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on socket: %w", err), s.Close())
	}
	return s, nil
}

func clearStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket: %w", err)
	}
	if !isSocket(info) {
		return edgeagent.WithHint(fmt.Errorf("%s is there and is not a socket", path),
			`remove it if it is not needed, or set "api.socket" to another path`)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
		return edgeagent.WithHint(fmt.Errorf("another agent answers on %s", path),
			`stop it with "edgeagent service stop", or set "api.socket" to another path for this one`)
	}
	if !isRefused(err) {
		// Busy, or not ours to look at: not proven stale.
		return edgeagent.WithHint(fmt.Errorf("%s is in use: %w", path, err),
			`set "api.socket" to another path, or remove the socket if no agent runs`)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}

// ownSocket removes its path when it is closed, if the path is still its own.
type ownSocket struct {
	net.Listener
	path string
	info fs.FileInfo
}

func (s *ownSocket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && s.info != nil && os.SameFile(now, s.info) {
		err = os.Remove(s.path)
		return errors.Join(s.Listener.Close(), err)
	}
	return s.Listener.Close()
}

// isSocket reports whether info is a unix socket; Windows shows them as irregular.
func isSocket(info fs.FileInfo) bool {
	return info.Mode()&fs.ModeSocket != 0 || goos == "windows" && info.Mode()&fs.ModeIrregular != 0
}

// isRefused reports whether a connect failed because nobody listens.
func isRefused(err error) bool {
	const wsaeconnrefused = syscall.Errno(10061) // Windows; no errno elsewhere
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaeconnrefused)
}

package web

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

// listenSocket binds a unix socket with mode 0660. One that a dead hub left is taken
// over, but only after a connect was refused: a file that is no socket and a socket
// that answers are left alone.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := clearStale(ctx, path); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("listen on socket: %w", err),
			`set "http.socket" to a path in a directory that exists and that edgehub can write`)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on socket: %w", err), l.Close())
	}
	return l, nil
}

func clearStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket: %w", err)
	}
	// Windows shows sockets as irregular files.
	if info.Mode()&fs.ModeSocket == 0 && (runtime.GOOS != "windows" || info.Mode()&fs.ModeIrregular == 0) {
		return edgeagent.WithHint(fmt.Errorf("%s is there and is not a socket", path), `set "http.socket" to another path`)
	}
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
		return edgeagent.WithHint(fmt.Errorf("another edgehub answers on %s", path),
			`stop it, or give this one another --state directory and "http.socket"`)
	}
	const wsaeconnrefused = syscall.Errno(10061) // Windows; no errno elsewhere
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, wsaeconnrefused) {
		return fmt.Errorf("%s is in use: %w", path, err) // busy, or not ours to look at
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}

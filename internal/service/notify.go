package service

import (
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells a service manager how the program is doing. It is safe for
// concurrent use and never fails: a manager that does not listen is not our
// problem.
type Notifier interface {
	// Ready says, once, that the service has started.
	Ready(status string)
	// Status says in one line what the service is doing: "systemctl status"
	// shows it.
	Status(status string)
}

// notifier speaks the sd_notify protocol where $NOTIFY_SOCKET is set.
type notifier struct {
	send   func(state string) error
	logger *slog.Logger
	failed atomic.Bool // the first failure is logged, the rest are like it
}

var _ Notifier = (*notifier)(nil)

func newNotifier(logger *slog.Logger) *notifier {
	return &notifier{
		send: func(state string) error {
			_, err := daemon.SdNotify(false, state)
			return err
		},
		logger: logger,
	}
}

// Ready implements Notifier.
func (n *notifier) Ready(status string) { n.notify(daemon.SdNotifyReady, status) }

// Status implements Notifier.
func (n *notifier) Status(status string) { n.notify("", status) }

func (n *notifier) stopping() { n.notify(daemon.SdNotifyStopping, "stopping") }

// notify sends both as one message. The protocol is lines, so the status is one.
func (n *notifier) notify(state, status string) {
	if status != "" {
		state += "\nSTATUS=" + strings.Join(strings.Fields(status), " ")
	}
	if err := n.send(strings.TrimPrefix(state, "\n")); err != nil && !n.failed.Swap(true) {
		n.logger.Warn("service manager does not take notifications", "error", err)
	}
}

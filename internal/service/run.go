package service

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"time"

	kservice "github.com/kardianos/service"
)

// ErrForced is returned by Run when a second signal came before the program had
// ended. The program may still be running; the process has to exit.
var ErrForced = errors.New("stopped by a second signal before everything had ended")

// Program is what a service runs.
type Program struct {
	Name   string       // default: edgeagent
	Logger *slog.Logger // default: discard
	// Start runs the program until ctx ends, and returns nil then. It may return
	// an error at any time, which ends Run.
	Start func(ctx context.Context, notify Notifier) error
}

// secondSignal is how long after the first a signal counts as the second one:
// whoever signals a process and its group sends the same signal twice at once.
const secondSignal = time.Second

// Run runs p until it is told to stop, and returns what p.Start returned.
func Run(ctx context.Context, p Program) error {
	if p.Name == "" {
		p.Name = DefaultName
	}
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	notify := newNotifier(p.Logger)
	windows := runtime.GOOS == "windows"
	if windows && !kservice.Interactive() {
		return runManaged(ctx, p, notify)
	}
	signals := make(chan os.Signal, 4) // more are dropped: two are enough for everything
	signal.Notify(signals, append([]os.Signal{os.Interrupt}, otherSignals()...)...)
	defer signal.Stop(signals)
	run := func() error { return loop(ctx, p, notify, signals) }
	if windows {
		return run() // the library waits for Ctrl-C there and offers no way to end sooner
	}
	return runForeground(p.Name, run)
}

// runForeground runs under the library's run loop. Its own wait for a signal knows
// neither a program that ends by itself nor a second signal, so ours takes its
// place through the option that it has for that.
func runForeground(name string, run func() error) error {
	f := &foreground{}
	s, err := kservice.New(f, &kservice.Config{
		Name:   name,
		Option: kservice.KeyValue{"RunWait": func() { f.err = run() }},
	})
	if err != nil {
		return err
	}
	return s.Run()
}

// foreground is a program that runs while the library waits.
type foreground struct{ err error }

func (*foreground) Start(kservice.Service) error  { return nil }
func (f *foreground) Stop(kservice.Service) error { return f.err }

// loop is Run without the process around it.
func loop(ctx context.Context, p Program, notify *notifier, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- p.Start(ctx, notify) })
	done := ctx.Done()
	var stopping time.Time // when the first signal came
	for {
		select {
		case err := <-ended:
			wg.Wait()
			return err
		case <-done:
			done = nil
			notify.stopping()
		case sig := <-signals:
			switch {
			case isHangup(sig):
				p.Logger.Info("hangup ignored, a changed configuration needs a restart")
			case stopping.IsZero():
				p.Logger.Info("stopping", "signal", sig.String())
				stopping = time.Now()
				cancel()
			case time.Since(stopping) >= secondSignal:
				return ErrForced
			}
		}
	}
}

// runManaged runs p under Windows' service manager.
func runManaged(ctx context.Context, p Program, notify *notifier) error {
	m := &managed{ctx: ctx, program: p, notify: notify, exit: os.Exit}
	s, err := kservice.New(m, &kservice.Config{Name: p.Name})
	if err != nil {
		return err
	}
	return s.Run()
}

// managed is a program as kardianos/service wants it: Start and Stop return.
type managed struct {
	ctx     context.Context // here because the interface has no place for it
	program Program
	notify  *notifier
	exit    func(code int)

	cancel context.CancelFunc
	wg     sync.WaitGroup
	err    error // of the program; read after wg
}

// Start begins the program.
func (m *managed) Start(kservice.Service) error {
	ctx, cancel := context.WithCancel(m.ctx)
	m.cancel = cancel
	m.wg.Go(func() {
		m.err = m.program.Start(ctx, m.notify)
		if ctx.Err() == nil {
			// Nobody asked for it. A service that says "stopped" stays so; one
			// that dies is started again.
			m.program.Logger.Error("program ended by itself", "error", m.err)
			m.exit(1)
		}
	})
	return nil
}

// Stop ends the program and waits for it.
func (m *managed) Stop(kservice.Service) error {
	m.cancel()
	m.wg.Wait()
	return m.err
}

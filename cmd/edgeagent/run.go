package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/service"
)

func newRun() *cobra.Command {
	var path, level, format string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a gateway from a configuration file",
		Long: `Run reads the configuration, opens the buffer and runs until it is told to stop
(SIGINT, SIGTERM or the service manager). It starts with sensors unplugged and the
broker down; whatever is missing is reported and tried again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(cmd.ErrOrStderr(), level, format)
			if err != nil {
				return &usageError{withUsage(cmd, err)}
			}
			cfg, err := configs.Load(path, configs.Options{Drivers: agent.Drivers(), Secrets: true})
			if err != nil {
				return err
			}
			return service.Run(cmd.Context(), service.Program{
				Logger: logger,
				Start: func(ctx context.Context, notify service.Notifier) error {
					return agent.Run(ctx, agent.Options{Config: cfg, Version: version, Built: buildTime(), Logger: logger, Notify: notify})
				},
			})
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", service.DefaultConfig, "configuration file")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().StringVar(&format, "log-format", "auto", "auto (text; without times under journald), text or json")
	return cmd
}

// newLogger writes to w: coloured lines on a terminal, plain lines elsewhere, no
// times where the journal adds its own.
func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, err
	}
	switch {
	case format == "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least})), nil
	case format != "auto" && format != "text":
		return nil, &badValue{"log-format", format, "auto, text or json"}
	case format == "auto" && isTerminal(w):
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: least, TimeFormat: "15:04:05.000"})), nil
	case format == "auto" && os.Getenv("JOURNAL_STREAM") != "":
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: dropTime})), nil
	default:
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: least})), nil
	}
}

func dropTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// badValue is a flag with a value that it cannot have.
type badValue struct{ flag, value, want string }

func (e *badValue) Error() string {
	return "bad value " + e.value + " for --" + e.flag + ", want " + e.want
}

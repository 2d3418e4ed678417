package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sensors"
)

// leastWatch is the least time between two looks: an agent that is asked has better
// things to do.
const leastWatch = 100 * time.Millisecond

type watchOptions struct {
	every, total time.Duration
	json         bool
}

func newSensorsWatch() *cobra.Command {
	var place sensorPlace
	o := watchOptions{}
	cmd := &cobra.Command{
		Use:   "watch [NAME]...",
		Short: "Show the values of sensors as they come",
		Long: `Watch shows the latest value of each series, redrawn in place on a terminal; elsewhere
each new reading is a line. It asks the running agent; without one it opens the sensors
of the configuration itself. NAME limits it to these sensors.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.every < leastWatch {
				return &usageError{withUsage(cmd, &badValue{"every", o.every.String(), "at least 100ms"})}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if o.total > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, o.total)
				defer cancel()
			}
			return place.watch(ctx, cmd.OutOrStdout(), args, o)
		},
	}
	place.flags(cmd)
	cmd.Flags().DurationVar(&o.every, "every", time.Second, "how often to look")
	cmd.Flags().DurationVar(&o.total, "for", 0, "end after this time (default: when interrupted)")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object a reading, on a line of its own")
	return cmd
}

func (p *sensorPlace) watch(ctx context.Context, out io.Writer, names []string, o watchOptions) error {
	cfg, client, err := p.find(ctx)
	if err != nil {
		return err
	}
	if client != nil {
		return watch(ctx, out, names, o, func(ctx context.Context) ([]api.Sensor, error) {
			status, err := client.Status(ctx)
			if err != nil {
				return nil, fmt.Errorf("ask the agent: %w", err)
			}
			return status.Sensors, nil
		})
	}
	env := hereEnv(cfg.Dir)
	var specs []sensors.Spec
	for _, c := range cfg.Sensors {
		if len(names) == 0 || slices.Contains(names, c.Name) {
			specs = append(specs, sensors.NewSpec(c, env))
		}
	}
	scheduler := sensors.NewScheduler(specs, nowhere{}, sensors.Options{Clock: env.Clock, Logger: slog.New(slog.DiscardHandler)})
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- scheduler.Run(running) }()
	err = watch(ctx, out, names, o, func(context.Context) ([]api.Sensor, error) {
		return statsOf(scheduler.Stats(), int64(env.Clock.Run())), nil
	})
	stop()
	return errors.Join(err, <-done)
}

// nowhere takes readings that are only looked at.
type nowhere struct{}

func (nowhere) Put(context.Context, []edgeagent.Reading) error { return nil }

func statsOf(list []sensors.SourceStats, now int64) []api.Sensor {
	var out []api.Sensor
	for _, s := range list {
		v := api.Sensor{Name: s.Name, Driver: s.Driver, Health: api.PartHealthOf(s.Health)}
		for _, r := range s.Last {
			v.Values = append(v.Values, api.ValueOf(r, time.Duration(now-r.At.Run)))
		}
		out = append(out, v)
	}
	return out
}

// watch looks every now and then until ctx ends.
func watch(ctx context.Context, out io.Writer, names []string, o watchOptions, look func(context.Context) ([]api.Sensor, error)) error {
	show := watchLines(out, o.json)
	if isTerminal(out) && !o.json {
		screen := term.NewScreen(out)
		show = func(list []api.Sensor) error { screen.Draw(watchScreen(list)); return screen.Err() }
	}
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	for {
		list, err := look(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		list = slices.DeleteFunc(list, func(s api.Sensor) bool { return len(names) > 0 && !slices.Contains(names, s.Name) })
		if len(list) == 0 && err == nil {
			return edgeagent.WithHint(errors.New("no such sensor"), `"edgeagent sensors list" lists them`)
		}
		if err := show(list); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// watchScreen is one frame.
func watchScreen(list []api.Sensor) string {
	t := &term.Table{Right: []int{1}}
	t.Row("SERIES", "VALUE", "UNIT", "QUALITY", "AGE")
	for _, s := range list {
		for _, v := range s.Values {
			t.Row(v.Series, valueText(v), unitText(v), v.Quality, term.Duration(v.Age.Duration().Round(100*time.Millisecond)))
		}
		if s.Health.Level != edgeagent.OK || len(s.Values) == 0 {
			text := s.Health.Text
			if text == "" {
				text = "no reading yet"
			}
			t.Row(s.Name, "-", "", s.Health.Level.String(), text)
		}
	}
	return t.String()
}

// watchLines prints each reading that is newer than the one before of its series. An
// error of a sensor is a line when it changes.
func watchLines(out io.Writer, asJSON bool) func([]api.Sensor) error {
	seen, troubles := map[string]time.Time{}, map[string]string{}
	return func(list []api.Sensor) error {
		for _, s := range list {
			for _, v := range s.Values {
				if !v.At.After(seen[v.Series]) {
					continue
				}
				seen[v.Series] = v.At.Time
				if err := printReading(out, v, asJSON); err != nil {
					return err
				}
			}
			trouble := ""
			if s.Health.Level != edgeagent.OK {
				trouble = s.Health.Text
			}
			if trouble != troubles[s.Name] && trouble != "" && !asJSON {
				fmt.Fprintf(out, "%s: %s: %s\n", s.Name, s.Health.Level, trouble)
			}
			troubles[s.Name] = trouble
		}
		return nil
	}
}

func printReading(out io.Writer, v api.Value, asJSON bool) error {
	if !asJSON {
		words := []string{v.At.UTC().Format("15:04:05.000"), v.Series, valueText(v), unitText(v)}
		if v.Quality != edgeagent.Good.String() {
			words = append(words, v.Quality)
		}
		_, err := fmt.Fprintln(out, strings.TrimRight(strings.Join(words, " "), " "))
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write a reading: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", b)
	return err
}

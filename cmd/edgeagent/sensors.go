package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/internal/service"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
)

func newSensors() *cobra.Command {
	cmd := group("sensors", "Find sensors, list them, read them",
		`A running agent is asked over its socket. Without one, the sensors of a configuration
(-c, or `+service.DefaultConfig+`) are opened here.`)
	cmd.AddCommand(newSensorsList(), newSensorsRead(), newSensorsScan(), newSensorsWatch())
	return cmd
}

// sensorPlace says whose sensors are meant.
type sensorPlace struct{ config, socket string }

func (p *sensorPlace) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&p.config, "config", "c", "", "configuration of the agent whose sensors they are")
	cmd.Flags().StringVar(&p.socket, "socket", "", "socket of the running agent (default: where the agent puts it)")
}

// find returns the configuration, if there is one, and a client of the agent, if one
// answers. With neither it is an error.
func (p *sensorPlace) find(ctx context.Context) (*configs.Config, *api.Client, error) {
	cfg, err := p.load()
	if err != nil {
		return nil, nil, err
	}
	socket := p.socket
	if socket == "" && cfg != nil {
		socket = cfg.API.Socket
	}
	client, err := api.Dial(ctx, socket)
	switch {
	case err == nil && (p.socket != "" || p.config == "" || isAgentOf(ctx, client, cfg)):
		return cfg, client, nil
	case p.socket != "":
		return nil, nil, err
	case cfg != nil:
		return cfg, nil, nil
	}
	return nil, nil, edgeagent.WithHint(errors.New("no agent answers, and there is no "+service.DefaultConfig),
		`name a configuration with -c; "edgeagent sensors scan" finds sensors without one`)
}

// isAgentOf reports whether the agent that answers runs this configuration: the demo
// or another agent may answer at the default socket. The buffer's directory tells, which
// no two agents share.
func isAgentOf(ctx context.Context, client *api.Client, cfg *configs.Config) bool {
	status, err := client.Status(ctx)
	return err == nil && sameDir(bufferDir(cfg), status.Buffer.Dir)
}

// bufferDir is where the buffer of a configuration is, "" if nobody knows.
func bufferDir(cfg *configs.Config) string {
	dir := cfg.Buffer.Dir
	if dir == "" {
		state, err := agent.StateDir()
		if err != nil {
			return ""
		}
		return filepath.Join(state, "buffer")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(cfg.Dir, dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	return abs
}

// load reads the configuration that is named, or the default one if it is there.
func (p *sensorPlace) load() (*configs.Config, error) {
	name := p.config
	if name == "" {
		if p.socket != "" {
			return nil, nil
		}
		if _, err := os.Stat(service.DefaultConfig); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, nil //nolint:nilnil // no configuration is an answer
		}
		name = service.DefaultConfig
	}
	return configs.Load(name, configs.Options{Drivers: agent.Drivers(), Secrets: true})
}

// sensorList is the result of "sensors list".
type sensorList struct {
	Running bool         `json:"running"`
	Sensors []api.Sensor `json:"sensors"`
}

func newSensorsList() *cobra.Command {
	var place sensorPlace
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the sensors of an agent, with their state while it runs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			list, err := place.list(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return list.table().Write(cmd.OutOrStdout())
		},
	}
	place.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (p *sensorPlace) list(ctx context.Context) (sensorList, error) {
	cfg, client, err := p.find(ctx)
	if err != nil {
		return sensorList{}, err
	}
	if client == nil {
		return sensorList{Sensors: configured(cfg.Sensors)}, nil
	}
	status, err := client.Status(ctx)
	if err != nil {
		return sensorList{}, fmt.Errorf("ask the agent: %w", err)
	}
	list := sensorList{Running: true, Sensors: status.Sensors}
	if cfg == nil || p.config == "" {
		return list, nil
	}
	// What the file names and the agent does not know needs a restart.
	for _, c := range configured(cfg.Sensors) {
		if !slices.ContainsFunc(list.Sensors, func(s api.Sensor) bool { return s.Name == c.Name }) {
			c.Health.Text = "not known to the running agent"
			list.Sensors = append(list.Sensors, c)
		}
	}
	return list, nil
}

// configured shows sensors that nobody has opened.
func configured(list []sensors.Config) []api.Sensor {
	out := []api.Sensor{}
	for _, c := range list {
		c = c.WithDefaults()
		out = append(out, api.Sensor{
			Name: c.Name, Driver: c.Driver, Interval: api.SecondsOf(c.Interval), Values: []api.Value{},
			Health: api.PartHealth{Code: "not-running", Text: "the agent does not run"},
		})
	}
	return out
}

func (l sensorList) table() *term.Table {
	t := &term.Table{Right: []int{2, 3}}
	t.Row("SENSOR", "DRIVER", "EVERY", "READINGS", "STATE")
	for _, s := range l.Sensors {
		state := s.Health.Level.String()
		if s.Health.Text != "" {
			state = s.Health.Text
		}
		t.Row(s.Name, s.Driver, term.Duration(s.Interval.Duration()), term.Count(s.Readings), state)
	}
	if len(l.Sensors) == 0 {
		t.Row("none")
	}
	return t
}

// oneReading is the result of "sensors read".
type oneReading struct {
	Sensor string      `json:"sensor"`
	Driver string      `json:"driver"`
	From   string      `json:"from"`             // "agent": its latest; "sensor": read now
	Open   api.Seconds `json:"open_s,omitzero"`  // to open it
	Sample api.Seconds `json:"read_s,omitzero"`  // the sample that gave the values
	Tries  int         `json:"samples,omitzero"` // until it gave values
	Values []api.Value `json:"values"`
}

func newSensorsRead() *cobra.Command {
	var place sensorPlace
	var asJSON, direct bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "read NAME",
		Short: "Read one sensor once, and say how long it took",
		Long: `Read opens the sensor NAME of the configuration and reads it. While the agent runs, its
latest values are shown instead, because two programs that talk to one chip disturb
each other; --direct reads it all the same.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 {
				return &usageError{withUsage(cmd, &badValue{"timeout", timeout.String(), "a time such as 10s"})}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			r, err := place.read(ctx, args[0], direct)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			return r.show(cmd)
		},
	}
	place.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&direct, "direct", false, "read the sensor here although the agent runs")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "give up after this time")
	return cmd
}

func (p *sensorPlace) read(ctx context.Context, name string, direct bool) (oneReading, error) {
	cfg, client, err := p.find(ctx)
	if err != nil {
		return oneReading{}, err
	}
	var known []string
	if client != nil && !direct {
		status, err := client.Status(ctx)
		if err != nil {
			return oneReading{}, fmt.Errorf("ask the agent: %w", err)
		}
		for _, s := range status.Sensors {
			known = append(known, s.Name)
			if s.Name == name {
				return fromAgent(s)
			}
		}
	}
	if cfg == nil {
		return oneReading{}, unknownSensor(name, known)
	}
	for _, c := range cfg.Sensors {
		known = append(known, c.Name)
		if c.Name == name {
			return readOnce(ctx, sensors.NewSpec(c, hereEnv(cfg.Dir)))
		}
	}
	return oneReading{}, unknownSensor(name, known)
}

func unknownSensor(name string, known []string) error {
	slices.Sort(known)
	hint := "there are none"
	if known = slices.Compact(known); len(known) > 0 {
		hint = "sensors here: " + strings.Join(known, ", ")
	}
	return edgeagent.WithHint(fmt.Errorf("no sensor %q", name), hint)
}

// fromAgent shows what a running agent read last.
func fromAgent(s api.Sensor) (oneReading, error) {
	if len(s.Values) == 0 {
		text := s.Health.Text
		if text == "" {
			text = "no reading yet"
		}
		return oneReading{}, edgeagent.WithHint(fmt.Errorf("sensor %s: %s", s.Name, text), s.Health.Hint)
	}
	return oneReading{Sensor: s.Name, Driver: s.Driver, From: "agent", Values: s.Values}, nil
}

// hereEnv is the world of a sensor that this program opens itself.
func hereEnv(dir string) sensors.Env {
	return sensors.Env{
		Root: "/", Dir: dir, Clock: clock.System(clock.Trusted, time.Time{}),
		Logger: slog.New(slog.DiscardHandler), I2C: i2c.NewBuses(i2c.OpenBus).Open,
	}
}

// readOnce opens a sensor and samples it until it gives a reading: a chip that measures
// every few seconds by itself has none at first.
func readOnce(ctx context.Context, spec sensors.Spec) (_ oneReading, err error) {
	r := oneReading{Sensor: spec.Config.Name, Driver: spec.Config.Driver, From: "sensor"}
	env := clock.System(clock.Trusted, time.Time{})
	began := env.Run()
	src, err := spec.Open(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	r.Open = api.SecondsOf(env.Run() - began)
	for {
		began = env.Run()
		r.Tries++
		readings, err := src.Sample(ctx, nil)
		if len(readings) > 0 {
			r.Sample = api.SecondsOf(env.Run() - began)
			for _, x := range readings {
				r.Values = append(r.Values, api.ValueOf(x, 0))
			}
			return r, nil
		}
		if err != nil {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, edgeagent.WithHint(fmt.Errorf("sensor %s has given no reading in %d samples", r.Sensor, r.Tries), "give it more time with --timeout")
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (r oneReading) show(cmd *cobra.Command) error {
	if err := valueTable(r.Values).Write(cmd.OutOrStdout()); err != nil {
		return err
	}
	if r.From == "agent" {
		fmt.Fprintln(cmd.ErrOrStderr(), "what the running agent read last")
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "opened in %s, read in %s\n", term.Duration(r.Open.Duration()), term.Duration(r.Sample.Duration()))
	return nil
}

// valueTable shows values, a line each.
func valueTable(values []api.Value) *term.Table {
	t := &term.Table{Right: []int{1}}
	for _, v := range values {
		t.Row(v.Series, valueText(v), unitText(v), v.Quality, ageText(v))
	}
	return t
}

func valueText(v api.Value) string {
	if v.Label != "" {
		return v.Label
	}
	if x := float64(v.Value); x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return strconv.FormatFloat(x, 'f', -1, 64) // a counter with all its digits
	}
	return strconv.FormatFloat(float64(v.Value), 'g', 8, 64)
}

// unitText leaves out the unit of what has none.
func unitText(v api.Value) string {
	if v.Unit == "1" {
		return ""
	}
	return v.Unit
}

func ageText(v api.Value) string {
	if v.Age < 0.001 {
		return ""
	}
	return term.Duration(v.Age.Duration()) + " ago"
}

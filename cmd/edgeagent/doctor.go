package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/internal/doctor"
	"github.com/edgeagent/edgeagent/internal/linkcheck"
	"github.com/edgeagent/edgeagent/internal/service"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sensors/gpio"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sensors/kernel"
	"github.com/edgeagent/edgeagent/sensors/modbus"
)

// diagnosis is the result of "doctor".
type diagnosis struct {
	Level    doctor.Level     `json:"level"` // the worst
	Findings []doctor.Finding `json:"findings"`
}

func newDoctor() *cobra.Command {
	var place sensorPlace
	var asJSON, offline bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what on this machine keeps the agent from working",
		Long: `Doctor looks at the board, the clock, the disk, device nodes and who may open them,
addresses that the kernel holds, the configuration, the running agent, and tries the
links. It changes nothing. Each line is one check, with what to do where one is needed.

Exit code 0 means that nothing needs attention, 3 that something does, 1 that something
does not work.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			d := examine(ctx, &place, !offline)
			err := error(nil)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), d)
			} else {
				err = d.show(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			switch d.Level {
			case doctor.Failed:
				return &exitError{exitFailed}
			case doctor.Warning:
				return &exitError{exitDegraded}
			}
			return nil
		},
	}
	place.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&offline, "offline", false, "do not try the links")
	return cmd
}

func examine(ctx context.Context, place *sensorPlace, links bool) diagnosis {
	cfg, err := place.load()
	trust := clock.Auto
	if cfg != nil {
		trust = cfg.Clock.Source
	}
	machine := thisMachine()
	machine.Synced = clock.System(trust, buildTime()).Synced
	findings := doctor.Examine(ctx, machine, wantedOf(cfg))
	findings = append(findings, configFinding(cfg, err))
	findings = append(findings, agentFindings(ctx, place, cfg)...)
	if cfg != nil && links && ctx.Err() == nil {
		findings = append(findings, linkFindings(ctx, cfg)...)
	}
	return diagnosis{doctor.Worst(findings), findings}
}

// wantedOf says what a configuration wants of the machine; without one nothing is.
func wantedOf(cfg *configs.Config) doctor.Wanted {
	var w doctor.Wanted
	if cfg == nil {
		return w
	}
	for _, s := range cfg.Sensors {
		if bus, n, addr, ok := i2c.Place(s.Options); ok {
			w.I2C = append(w.I2C, doctor.Chip{Sensor: s.Name, Bus: bus, Number: n, Addr: addr})
		}
		switch c := s.Options.(type) {
		case *kernel.W1:
			w.W1 = append(w.W1, c.ID)
		case *gpio.Config:
			w.GPIO = append(w.GPIO, chipNode(c.Chip)...)
		case *modbus.Config:
			if port, ok := strings.CutPrefix(c.URL, "rtu://"); ok {
				w.Serial = append(w.Serial, port)
			}
		}
	}
	for _, o := range cfg.Outputs {
		w.GPIO = append(w.GPIO, chipNode(o.Chip)...)
	}
	w.Buffer, w.BufferLimit = bufferDir(cfg), int64(cfg.Buffer.MaxBytes)
	return w
}

// chipNode is the device node of a GPIO chip; none if the chip goes by its label.
func chipNode(chip string) []string {
	name := strings.TrimPrefix(chip, "/dev/")
	if rest, ok := strings.CutPrefix(name, "gpiochip"); ok && strings.Trim(rest, "0123456789") == "" {
		return []string{"/dev/" + name}
	}
	return nil
}

func configFinding(cfg *configs.Config, err error) doctor.Finding {
	switch {
	case err != nil:
		f := doctor.Finding{Check: "config", Level: doctor.Failed, Text: err.Error(), Hint: hintOf(err)}
		if list, ok := errors.AsType[configs.Errors](err); ok && len(list) > 0 {
			f.Text = fmt.Sprintf("%s:%d: %s", list[0].File, list[0].Line, list[0].Message)
			if len(list) > 1 {
				f.Text += fmt.Sprintf(" (and %d more)", len(list)-1)
			}
			f.Hint = `"edgeagent config check FILE" shows each mistake with its place`
		}
		return f
	case cfg == nil:
		return doctor.Finding{
			Check: "config", Level: doctor.Unknown, Text: "there is no " + service.DefaultConfig,
			Hint: `name a configuration with -c; "edgeagent sensors scan" prints sensors for one`,
		}
	}
	return doctor.Finding{Check: "config", Level: doctor.OK, Text: count(len(cfg.Sensors), "sensor") + ", " + count(len(cfg.Destinations), "destination")}
}

func hintOf(err error) string {
	if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
		return h.Hint()
	}
	return ""
}

// agentFindings asks the agent, if it runs; its own warnings count.
func agentFindings(ctx context.Context, place *sensorPlace, cfg *configs.Config) []doctor.Finding {
	socket := place.socket
	if socket == "" && cfg != nil {
		socket = cfg.API.Socket
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := api.Dial(ctx, socket)
	if err == nil && place.socket == "" && place.config != "" && cfg != nil && !isAgentOf(ctx, client, cfg) {
		err = errors.New("another agent answers")
	}
	if err != nil {
		return []doctor.Finding{{Check: "agent", Level: doctor.Unknown, Text: "does not run, or does not answer", Hint: `start it: "edgeagent service start", or "edgeagent run -c FILE"`}}
	}
	defer func() { _ = client.Close() }() // never fails
	status, err := client.Status(ctx)
	if err != nil {
		return []doctor.Finding{{Check: "agent", Level: doctor.Failed, Text: "does not answer: " + err.Error(), Hint: `start it anew: "edgeagent service restart"`}}
	}
	out := []doctor.Finding{{
		Check: "agent", Level: doctor.OK,
		Text: fmt.Sprintf("runs for %s, version %s, %s in the buffer", term.Duration(status.Uptime.Duration()), status.Version, term.Size(status.Buffer.Bytes)),
	}}
	for _, w := range status.Health.Warnings {
		level := doctor.Warning
		if w.Level == edgeagent.Failed {
			level = doctor.Failed
		}
		out = append(out, doctor.Finding{Check: w.Part, Level: level, Text: w.Text, Hint: w.Hint})
	}
	return out
}

// linkFindings tries each link and tells of the step that fails.
func linkFindings(ctx context.Context, cfg *configs.Config) []doctor.Finding {
	report, err := checkLinks(ctx, cfg, cfg.Destinations, linkcheck.Options{Timeout: 10 * time.Second, Dir: cfg.Dir}, func(checkedLink) error { return nil })
	if err != nil {
		return []doctor.Finding{{Check: "links", Level: doctor.Unknown, Text: err.Error(), Hint: hintOf(err)}}
	}
	var out []doctor.Finding
	for _, d := range report.Destinations {
		for _, l := range d.Links {
			out = append(out, linkFinding("link/"+d.Name, l))
		}
	}
	return out
}

func linkFinding(check string, l checkedLink) doctor.Finding {
	f := doctor.Finding{Check: check, Level: doctor.OK, Text: l.Link + " works"}
	for _, s := range l.Steps {
		bad := s.State == linkcheck.Failed || s.State == linkcheck.Warning && f.Level == doctor.OK
		if !bad {
			continue
		}
		f.Level, f.Text, f.Hint = doctor.Warning, fmt.Sprintf("%s: %s: %s", l.Link, s.Name, s.Text), s.Hint
		if s.State == linkcheck.Failed {
			f.Level = doctor.Failed
			break
		}
	}
	if f.Level != doctor.OK && f.Hint == "" {
		f.Hint = `"edgeagent sync check" shows each step`
	}
	return f
}

func (d diagnosis) show(w io.Writer) error {
	t := &term.Table{}
	counts := map[doctor.Level]int{}
	for _, f := range d.Findings {
		counts[f.Level]++
		t.Row(string(f.Level), f.Check, f.Text)
		if f.Hint != "" && f.Level != doctor.OK {
			t.Row("", "", "-> "+f.Hint)
		}
	}
	if err := t.Write(w); err != nil {
		return err
	}
	verdict := "nothing needs attention"
	if counts[doctor.Failed]+counts[doctor.Warning] > 0 {
		var words []string
		if n := counts[doctor.Failed]; n > 0 {
			words = append(words, doNot(n)+" not work")
		}
		if n := counts[doctor.Warning]; n > 0 {
			words = append(words, need(n)+" attention")
		}
		verdict = strings.Join(words, ", ")
	}
	_, err := fmt.Fprintf(w, "\n%s\n", verdict)
	return err
}

func doNot(n int) string {
	if n == 1 {
		return "1 does"
	}
	return fmt.Sprintf("%d do", n)
}

func need(n int) string {
	if n == 1 {
		return "1 needs"
	}
	return fmt.Sprintf("%d need", n)
}

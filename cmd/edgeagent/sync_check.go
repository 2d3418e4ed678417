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
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/linkcheck"
	"github.com/edgeagent/edgeagent/internal/service"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

func newSyncCheck() *cobra.Command {
	var path string
	var asJSON bool
	var o linkcheck.Options
	cmd := &cobra.Command{
		Use:   "check [DESTINATION]",
		Short: "Try each link step by step: name, connection, TLS, login, publish, acknowledgement, receiver",
		Long: `Check tries every link of every destination in the configuration, or of the one that
is named, from this machine: look the name up, connect, go through the proxy, secure the
connection, log in, subscribe, publish, have the broker acknowledge, have the receiver
answer. Each step has its time, and a failed one says what to do.

It works beside a running agent: it logs in under the agent's client id with "` + linkcheck.Suffix + `"
behind it, which a broker's access list must allow if it looks at client ids. What it
publishes holds no reading: a comment or an empty list, or marks of no stream, which a
hub answers and does not store. It proves that this machine gets through now; what the
running agent has to say of its links is in "edgeagent status".

Exit code 0 means that all links work, 3 that every destination has one that works but
something needs attention, 1 that a destination has none.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			cfg, err := configs.Load(path, configs.Options{Drivers: agent.Drivers(), Secrets: true})
			if err != nil {
				return err
			}
			list, err := chosen(cfg, args)
			if err != nil {
				return err
			}
			o.Dir = cfg.Dir
			out := cmd.OutOrStdout()
			show := renderLink
			if asJSON {
				show = func(io.Writer, checkedLink) error { return nil }
			}
			report, err := checkLinks(ctx, cfg, list, o, func(r checkedLink) error { return show(out, r) })
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(out, report)
			} else {
				err = renderVerdict(out, report)
			}
			if err == nil {
				err = report.exit()
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", service.DefaultConfig, "configuration file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", linkcheck.DefaultTimeout, "the longest that one link may take")
	cmd.Flags().StringVar(&o.ClientID, "client-id", "", "log in under this id; the agent's own ends its session")
	return cmd
}

// chosen returns the destinations to check.
func chosen(cfg *configs.Config, args []string) ([]uplink.Config, error) {
	if len(cfg.Destinations) == 0 {
		return nil, edgeagent.WithHint(errors.New("the configuration has no destination"), "add one under destinations, with links: [{url: mqtt://host:1883}]")
	}
	if len(args) == 0 {
		return cfg.Destinations, nil
	}
	var names []string
	for _, d := range cfg.Destinations {
		if d.Name == args[0] {
			return []uplink.Config{d}, nil
		}
		names = append(names, d.Name)
	}
	return nil, edgeagent.WithHint(fmt.Errorf("there is no destination %q", args[0]), "there is "+strings.Join(names, ", "))
}

// checkReport is the JSON contract of "sync check".
type checkReport struct {
	State        linkcheck.State      `json:"state"` // ok, warning, failed
	Time         api.Time             `json:"time"`
	Destinations []checkedDestination `json:"destinations"`
}

type checkedDestination struct {
	Name   string          `json:"name"`
	Format string          `json:"format"`
	Ack    uplink.AckLevel `json:"ack"`
	State  linkcheck.State `json:"state"`
	Links  []checkedLink   `json:"links"`
}

type checkedLink struct {
	destination string
	number, of  int

	Link     string          `json:"link"` // without secrets
	ClientID string          `json:"client_id"`
	State    linkcheck.State `json:"state"`
	// Proven is what the last good step proves: receiver, broker or nothing.
	Proven string        `json:"proven"`
	Steps  []checkedStep `json:"steps"`
}

type checkedStep struct {
	Name  string          `json:"name"`
	State linkcheck.State `json:"state"` // ok, warning, failed, skipped
	Took  api.Seconds     `json:"took_s"`
	Text  string          `json:"text,omitempty"`
	Hint  string          `json:"hint,omitempty"`
}

// checkLinks tries one link after the other and tells of each when it is done.
func checkLinks(ctx context.Context, cfg *configs.Config, list []uplink.Config, o linkcheck.Options, tell func(checkedLink) error) (checkReport, error) {
	marks, err := new(block.Encoder).Marks(nil, block.Marks{}) // of no epoch and no stream
	if err != nil {
		return checkReport{}, err
	}
	report := checkReport{State: linkcheck.OK, Time: api.At(time.Now())}
	for _, d := range list {
		d = d.WithDefaults()
		out := checkedDestination{Name: d.Name, Format: d.Format, Ack: d.Ack}
		for i, l := range d.Links {
			r, err := linkcheck.Check(ctx, linkcheck.Target{
				Tenant: cfg.Device.Tenant, Device: cfg.Device.ID, Destination: d, Link: l, Marks: marks,
			}, o)
			if err != nil {
				return report, fmt.Errorf("check %s: %w", d.Name, err)
			}
			if ctx.Err() != nil {
				return report, context.Cause(ctx)
			}
			link := checkedLinkOf(r)
			link.destination, link.number, link.of = d.Name, i+1, len(d.Links)
			out.Links = append(out.Links, link)
			if err := tell(link); err != nil {
				return report, err
			}
		}
		out.State = destinationState(out.Links)
		report.Destinations = append(report.Destinations, out)
		report.State = worse(report.State, out.State)
	}
	return report, nil
}

func checkedLinkOf(r linkcheck.Result) checkedLink {
	l := checkedLink{Link: r.Link, ClientID: r.ClientID, State: r.State, Proven: "nothing"}
	for _, s := range r.Steps {
		l.Steps = append(l.Steps, checkedStep{s.Name, s.State, api.SecondsOf(s.Took), s.Text, s.Hint})
		if s.Name == linkcheck.StepAck && s.State != linkcheck.Failed && s.State != linkcheck.Skipped {
			l.Proven = "broker"
		}
	}
	if r.EndToEnd {
		l.Proven = "receiver"
	}
	return l
}

// destinationState: one link that works is enough to deliver; another that does not is
// worth a warning.
func destinationState(links []checkedLink) linkcheck.State {
	best, worst := linkcheck.Failed, linkcheck.OK
	for _, l := range links {
		worst = worse(worst, l.State)
		if worse(best, l.State) == best {
			best = l.State
		}
	}
	if best == linkcheck.OK && worst != linkcheck.OK {
		return linkcheck.Warning
	}
	return best
}

func worse(a, b linkcheck.State) linkcheck.State {
	rank := map[linkcheck.State]int{linkcheck.OK: 0, linkcheck.Warning: 1, linkcheck.Failed: 2}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

func (r checkReport) exit() error {
	switch r.State {
	case linkcheck.Failed:
		return &exitError{exitFailed}
	case linkcheck.Warning:
		return &exitError{exitDegraded}
	}
	return nil
}

// renderLink prints one link: a line a step, what to do below it.
func renderLink(w io.Writer, l checkedLink) error {
	name := l.destination
	if l.of > 1 {
		name += fmt.Sprintf(" (link %d of %d)", l.number, l.of)
	}
	fmt.Fprintf(w, "%s  %s\n", name, l.Link)
	t := term.Table{Right: []int{2}}
	for _, s := range l.Steps {
		took := term.Duration(s.Took.Duration())
		switch {
		case s.State == linkcheck.Skipped:
			took = ""
		case s.Took == 0:
			took = "<1ms"
		}
		t.Row("  "+mark(w, s.State), s.Name, took, s.Text)
		if s.Hint != "" {
			t.Row("", "", "", "hint: "+s.Hint)
		}
	}
	if err := t.Write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func mark(w io.Writer, s linkcheck.State) string {
	word, color := "-", term.Color("")
	switch s {
	case linkcheck.OK:
		word, color = "ok", term.Green
	case linkcheck.Warning:
		word, color = "warn", term.Yellow
	case linkcheck.Failed:
		word, color = "FAIL", term.Red
	case linkcheck.Skipped:
	}
	return term.Paint(color != "" && term.HasColor(w), color, word)
}

// silent reports whether all went well but the receiver's answer.
func silent(steps []checkedStep) bool {
	last := len(steps) - 1
	return last > 0 && steps[last].State == linkcheck.Failed && steps[last].Name == linkcheck.StepReceiver && steps[last-1].State != linkcheck.Failed
}

// renderVerdict says in a line what was proven of each destination.
func renderVerdict(w io.Writer, r checkReport) error {
	for _, d := range r.Destinations {
		works, proven := 0, "nothing"
		for _, l := range d.Links {
			if proven == "nothing" && silent(l.Steps) {
				proven = "silent"
			}
			if l.State != linkcheck.Failed {
				works++
				if proven != "receiver" {
					proven = l.Proven
				}
			}
		}
		verdict := map[string]string{
			"nothing":  "nothing gets through",
			"silent":   "the broker takes messages, and the receiver does not answer",
			"broker":   "the broker takes messages; that anybody receives them is not proven (ack: " + string(d.Ack) + ")",
			"receiver": "proven from end to end",
		}[proven]
		if works < len(d.Links) && works > 0 {
			verdict += fmt.Sprintf(", by %d of %d links", works, len(d.Links))
		}
		if _, err := fmt.Fprintf(w, "%s: %s: %s\n", d.Name, d.State, verdict); err != nil {
			return err
		}
	}
	return nil
}

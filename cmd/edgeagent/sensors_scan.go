package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sensors/kernel"
)

// scanned is the result of "sensors scan".
type scanned struct {
	Found    []foundThing  `json:"found"`
	Problems []scanProblem `json:"problems"`
}

type foundThing struct {
	Where   string   `json:"where"`
	Place   string   `json:"place,omitempty"`
	What    string   `json:"what,omitempty"`
	Note    string   `json:"note,omitempty"`
	Stanzas []string `json:"stanzas"` // sensors as they could stand in a configuration
}

type scanProblem struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

func newSensorsScan() *cobra.Command {
	var asJSON bool
	scanner := i2c.Scanner{Root: "/", Open: i2c.OpenBus}
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "Look for sensors on this machine and print what a configuration would say",
		Long: `Scan asks each address of each I2C bus for one byte, lists what the kernel reads already
(1-Wire, hwmon, IIO, thermal zones), and serial ports and GPIO chips. It prints stanzas
to paste under "sensors:".

It writes to nothing, but for the addresses of Sensirion's chips, which answer to no
bare read: these are asked for their status. With --identify the chips are asked who
they are, where that is known; this writes the number of a register to them. An address
that a driver of the kernel holds is not touched, and neither are the buses of displays
and of a PC's memory, unless --bus names one.

Exit code 0 means that all buses could be looked at, 3 that some could not, 1 that none
could.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			result := scan(cmd.Context(), scanner)
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), result); err != nil {
					return err
				}
			} else {
				result.show(cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return result.exit()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&scanner.Bus, "bus", "", "look at this I2C bus only, whatever it belongs to")
	cmd.Flags().BoolVar(&scanner.Identify, "identify", false, "ask the chips who they are")
	return cmd
}

func scan(ctx context.Context, s i2c.Scanner) scanned {
	chips, err := s.Scan(ctx)
	result := scanned{Found: []foundThing{}, Problems: problemsOf(err)}
	names := map[string]int{}
	if s.Bus == "" {
		chips = append(chips, kernel.Scan(s.Root)...)
	}
	for _, f := range chips {
		thing := foundThing{Where: f.Where, Place: f.Place, What: f.What, Note: f.Note, Stanzas: []string{}}
		for _, s := range f.Fits {
			if names[s.Name]++; names[s.Name] > 1 { // two of one name make no configuration
				s.Name += "-" + strconv.Itoa(names[s.Name])
			}
			thing.Stanzas = append(thing.Stanzas, s.String())
		}
		result.Found = append(result.Found, thing)
	}
	return result
}

// problemsOf takes joined errors apart.
func problemsOf(err error) []scanProblem {
	out := []scanProblem{}
	if err == nil {
		return out
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for _, e := range list {
		p := scanProblem{Text: e.Error()}
		if hinter, ok := errors.AsType[edgeagent.Hinter](e); ok {
			p.Hint = hinter.Hint()
		}
		out = append(out, p)
	}
	return out
}

// exit says whether all buses could be looked at.
func (s scanned) exit() error {
	switch {
	case len(s.Problems) == 0:
		return nil
	case len(s.Found) == 0:
		return &exitError{exitFailed}
	}
	return &exitError{exitDegraded}
}

func (s scanned) show(out, errs io.Writer) {
	if len(s.Found) == 0 && len(s.Problems) == 0 {
		fmt.Fprintln(out, "nothing found")
	}
	for i := 0; i < len(s.Found); {
		fmt.Fprintln(out, s.Found[i].Where)
		t := &term.Table{Indent: "  "}
		for where := s.Found[i].Where; i < len(s.Found) && s.Found[i].Where == where; i++ {
			f := s.Found[i]
			what := f.What
			if len(f.Stanzas) > 0 && what == "answers" {
				what = "could be " + strings.Join(driversOf(f.Stanzas), ", ")
			}
			if f.Place == "" {
				t.Row(f.Note)
				continue
			}
			t.Row(f.Place, what, f.Note)
		}
		_ = t.Write(out) // a screen that is gone has no reader
	}
	s.printStanzas(out)
	for _, p := range s.Problems {
		term.PrintError(errs, edgeagent.WithHint(errors.New(p.Text), p.Hint))
	}
}

func driversOf(stanzas []string) []string {
	var out []string
	for _, s := range stanzas {
		_, rest, _ := strings.Cut(s, "driver: ")
		name, _, _ := strings.Cut(rest, ",")
		out = append(out, strings.TrimSuffix(name, "}"))
	}
	return out
}

// printStanzas prints the likeliest sensor of each place, and the others as comments.
func (s scanned) printStanzas(out io.Writer) {
	begun := false
	for _, f := range s.Found {
		for i, stanza := range f.Stanzas {
			if !begun {
				fmt.Fprintln(out, "\nsensors:")
				begun = true
			}
			if i == 0 {
				fmt.Fprintf(out, "  - %s\n", stanza)
			} else {
				fmt.Fprintf(out, "  # - %s\n", stanza)
			}
		}
	}
}

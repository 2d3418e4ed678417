package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/term"
)

func newBufferDead() *cobra.Command {
	var place bufferPlace
	var asJSON bool
	var dest string
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "List dead letters: copies of records that a destination refuses for ever",
		Long: `Dead lists the dead letters, oldest first. A record that a destination refuses twice
for what it is, or that does not fit into a message, is copied and given up for that
destination; the others are not touched. Copies take 16 MiB at most, the oldest go.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := place.survey(cmd)
			if err != nil {
				return err
			}
			list := deadLetters{s.Stats.Dir, lettersTo(s.Dead, dest)}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return list.render(cmd.OutOrStdout())
		},
	}
	place.flags(cmd)
	cmd.Flags().StringVar(&dest, "destination", "", "only those of this destination")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.AddCommand(newBufferDeadExport())
	return cmd
}

// deadLetters is the JSON form.
type deadLetters struct {
	Dir     string           `json:"dir"`
	Letters []api.DeadLetter `json:"dead_letters"`
}

// lettersTo returns the letters of a destination, or all.
func lettersTo(list []api.DeadLetter, dest string) []api.DeadLetter {
	return slices.DeleteFunc(append([]api.DeadLetter{}, list...), func(x api.DeadLetter) bool { return dest != "" && x.Destination != dest })
}

func (d deadLetters) render(w io.Writer) error {
	if len(d.Letters) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters")
		return err
	}
	t := &term.Table{Right: []int{4, 5, 6, 7}}
	t.Row("AT", "DESTINATION", "STREAM", "EPOCH", "FROM", "TO", "RECORDS", "SIZE", "CAUSE")
	for _, x := range d.Letters {
		t.Row(localTime(x.At), x.Destination, x.Stream.String(), x.Epoch.String(), number(x.From), number(x.To),
			term.Count(x.Records), term.Size(x.Bytes), x.Cause)
	}
	return t.Write(w)
}

func newBufferDeadExport() *cobra.Command {
	var place bufferPlace
	var dest string
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the records of dead letters as CSV, JSON lines or line protocol",
		Long: `Export prints the records of the dead letters, oldest letter first, in the forms of
"edgeagent buffer export".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := place.check(cmd); err != nil {
				return err
			}
			e, err := newExporter(cmd.OutOrStdout(), o, time.Now())
			if err != nil {
				return &usageError{withUsage(cmd, err)}
			}
			source, err := place.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, source.Close()) }()
			_, err = source.Blocks(cmd.Context(), api.BlockQuery{Stream: e.stream, Since: e.since, Dead: true, Destination: dest}, e.block)
			if err = errors.Join(err, e.out.Flush()); err != nil {
				return edgeagent.WithHint(fmt.Errorf("export dead letters: %w", err), `see which there are with "edgeagent buffer dead"`)
			}
			return nil
		},
	}
	place.flags(cmd)
	cmd.Flags().StringVar(&dest, "destination", "", "only those of this destination")
	cmd.Flags().StringVar(&o.format, "format", "csv", "csv, replay, jsonl or line")
	cmd.Flags().StringVar(&o.stream, "stream", "telemetry", "telemetry, event, alarm or rollup")
	return cmd
}

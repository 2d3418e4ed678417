package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/term"
)

func newBufferStats() *cobra.Command {
	var place bufferPlace
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Show how much is stored, what is not confirmed, and what was lost and why",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := place.survey(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s.Stats)
			}
			return renderBufferStats(cmd.OutOrStdout(), s.Stats)
		},
	}
	place.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (p *bufferPlace) survey(cmd *cobra.Command) (s api.BufferSurvey, err error) {
	if err := p.check(cmd); err != nil {
		return api.BufferSurvey{}, err
	}
	source, err := p.open(cmd.Context())
	if err != nil {
		return api.BufferSurvey{}, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	return source.Survey(cmd.Context())
}

func renderBufferStats(w io.Writer, s api.BufferStats) error {
	state := "ended without a stop: kill, crash or power cut"
	switch {
	case s.Running:
		state = "in use by the agent"
	case s.Clean:
		state = "stopped in order"
	}
	fmt.Fprintf(w, "BUFFER  %s, %s\n", s.Dir, state)
	held := term.Count(s.Records) + " records in " + segmentsOrHead(s.Segments, s.Records) + ", " + term.Size(s.Bytes)
	if s.MaxBytes > 0 {
		held += " of " + term.Size(s.MaxBytes)
	}
	fmt.Fprintf(w, "HELD    %s\n", held)
	if s.Epochs == 0 {
		return nil // made, and never used
	}
	who := "epoch " + s.Epoch.String() + ", run " + s.Run.String()
	if s.Device != "" {
		who = "device " + s.Device + ", " + who
	}
	fmt.Fprintf(w, "AGENT   %s\n", who)
	fmt.Fprintf(w, "        %s, %s, %d series\n", term.Plural(int(s.Epochs), "epoch"), term.Plural(int(s.Runs), "run"), s.Series)

	t := term.Table{Right: []int{1, 2, 3, 4, 5}}
	t.Row("STREAM", "RECORDS", "SEGMENTS", "SIZE", "B/RECORD", "NEXT", "OLDEST", "NEWEST")
	for _, st := range edgeagent.Streams() {
		x := s.Streams[st]
		if x.Records == 0 && x.Next <= 1 {
			continue
		}
		each := ""
		if x.Records > 0 && x.Bytes > 0 {
			each = perRecord(x.BytesPerRecord)
		}
		t.Row(st.String(), term.Count(x.Records), term.Count(x.Segments), term.Size(x.Bytes), each,
			strconv.FormatUint(uint64(x.Next), 10), localTime(x.Oldest), localTime(x.Newest))
	}
	if err := section(w, &t); err != nil {
		return err
	}
	return renderBufferRest(w, s)
}

// segmentsOrHead says where records are: those that fill no block yet are in the head
// log alone.
func segmentsOrHead(segments, records uint64) string {
	if segments == 0 && records > 0 {
		return "the head log"
	}
	return term.Plural(int(segments), "segment")
}

// perRecord prints no more digits than mean something.
func perRecord(bytes float64) string {
	if bytes >= 100 {
		return term.Count(int64(bytes + 0.5))
	}
	return decimals(bytes, 2)
}

// renderBufferRest prints what most buffers have little of.
func renderBufferRest(w io.Writer, s api.BufferStats) error {
	if len(s.Destinations) > 0 {
		t := term.Table{Right: []int{1}}
		t.Row("DESTINATION", "TO CONFIRM", "")
		for _, d := range s.Destinations {
			note := ""
			if !d.Active {
				note = "not configured, holds nothing back"
			}
			t.Row(d.Name, term.Count(d.Unconfirmed), note)
		}
		if err := section(w, &t); err != nil {
			return err
		}
	}
	if len(s.Gaps) > 0 {
		t := term.Table{Right: []int{1, 2}}
		t.Row("GAPS", "RANGES", "RECORDS AT MOST")
		for _, reason := range slices.Sorted(maps.Keys(s.Gaps)) {
			t.Row(reason, term.Count(s.Gaps[reason].Ranges), term.Count(s.Gaps[reason].Records))
		}
		if err := section(w, &t); err != nil {
			return err
		}
	}
	if s.QuarantineFiles > 0 {
		fmt.Fprintf(w, "\n%s in quarantine, %s\n", term.Plural(int(s.QuarantineFiles), "damaged file"), term.Size(s.QuarantineBytes))
	}
	return nil
}

// section prints a table below an empty line.
func section(w io.Writer, t *term.Table) error {
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return t.Write(w)
}

// localTime prints a time as the machine's clock would show it.
func localTime(t api.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

func newBufferList() *cobra.Command {
	var place bufferPlace
	var show listed
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List segments, gaps, runs or series",
		Long: `Ls lists the segment files, oldest first. With --gaps, --runs or --series it lists
those instead: what can no longer be delivered and why, which start of the agent gave
which numbers, and what the ids of series stand for.

A segment is open (appended to), sealed, confirmed (every destination has all of it),
damaged, or unused (the next start removes it).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := place.survey(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), show.pick(s))
			}
			return show.render(cmd.OutOrStdout(), s)
		},
	}
	place.flags(cmd)
	cmd.Flags().BoolVar(&show.gaps, "gaps", false, "list what can no longer be delivered")
	cmd.Flags().BoolVar(&show.runs, "runs", false, "list the runs of the agent and their numbers")
	cmd.Flags().BoolVar(&show.series, "series", false, "list the series and their ids")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// listed says what ls lists; nothing means segments.
type listed struct{ gaps, runs, series bool }

func (l listed) segments() bool { return l == listed{} }

// listing is the JSON form: the lists that were asked for.
type listing struct {
	Dir      string               `json:"dir"`
	Segments *[]api.BufferSegment `json:"segments,omitempty"`
	Gaps     *[]api.BufferGap     `json:"gaps,omitempty"`
	Runs     *[]api.BufferRun     `json:"runs,omitempty"`
	Series   *[]api.BufferSeries  `json:"series,omitempty"`
}

func (l listed) pick(s api.BufferSurvey) listing {
	return listing{
		Dir: s.Stats.Dir, Segments: pick(l.segments(), s.Segments), Gaps: pick(l.gaps, s.Gaps),
		Runs: pick(l.runs, s.Runs), Series: pick(l.series, s.Series),
	}
}

// pick returns a list that was asked for, [] when it is empty.
func pick[T any](want bool, list []T) *[]T {
	if !want {
		return nil
	}
	if list == nil {
		list = []T{}
	}
	return &list
}

func (l listed) render(w io.Writer, s api.BufferSurvey) error {
	var tables []*term.Table
	if l.segments() {
		tables = append(tables, segmentTable(s.Segments))
	}
	if l.gaps {
		tables = append(tables, gapTable(s.Gaps))
	}
	if l.runs {
		tables = append(tables, runTable(s.Runs))
	}
	if l.series {
		tables = append(tables, seriesTable(s.Series))
	}
	for i, t := range tables {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := t.Write(w); err != nil {
			return err
		}
	}
	if l.gaps && slices.ContainsFunc(s.Gaps, func(g api.BufferGap) bool { return g.AtMost == 0 }) {
		fmt.Fprintln(w, "\nWhere 0 records are gone, numbers were left out and nothing was lost.")
	}
	return nil
}

func segmentTable(list []api.BufferSegment) *term.Table {
	t := &term.Table{Right: []int{1, 2, 3, 4}}
	t.Row("SEGMENT", "FIRST", "LAST", "RECORDS", "SIZE", "OLDEST", "NEWEST", "STATE")
	for _, x := range list {
		t.Row(x.File, number(x.First), number(x.Last), term.Count(x.Records), term.Size(x.Bytes),
			localTime(x.Oldest), localTime(x.Newest), x.State)
	}
	return t
}

func gapTable(list []api.BufferGap) *term.Table {
	t := &term.Table{Right: []int{2, 3, 5}}
	t.Row("STREAM", "EPOCH", "FROM", "TO", "REASON", "RECORDS AT MOST", "DESTINATION")
	for _, x := range list {
		t.Row(x.Stream.String(), x.Epoch.String(), number(x.From), number(x.To), x.Reason, term.Count(x.AtMost), x.Destination)
	}
	return t
}

func runTable(list []api.BufferRun) *term.Table {
	t := &term.Table{Right: []int{3, 4}}
	t.Row("STREAM", "EPOCH", "RUN", "FIRST", "LAST")
	for _, x := range list {
		t.Row(x.Stream.String(), x.Epoch.String(), x.Run.String(), number(x.First), number(x.Last))
	}
	return t
}

func seriesTable(list []api.BufferSeries) *term.Table {
	t := &term.Table{Right: []int{1}}
	t.Row("EPOCH", "ID", "SERIES", "UNIT", "KIND", "TAGS")
	for _, x := range list {
		t.Row(x.Epoch.String(), strconv.FormatUint(uint64(x.ID), 10), x.Series, x.Unit, x.Kind, edgeagent.MakePairs(x.Tags).String())
	}
	return t
}

// number prints a sequence number as it stands in messages: without commas.
func number(s edgeagent.Seq) string { return strconv.FormatUint(uint64(s), 10) }

func newBufferVerify() *cobra.Command {
	var place bufferPlace
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every block and check that nothing is damaged or missing without a reason",
		Long: `Verify reads every block of every segment: its checksum, that it decodes, that it
stands in its place and under the run that wrote it, and that every number is in a
block or in the ledger with the reason why not. It repairs nothing: the agent does
that by itself when it starts or comes upon the damage.

Exit code 0 means that all is whole, 1 that something is not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := place.check(cmd); err != nil {
				return err
			}
			source, err := place.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, source.Close()) }()
			v, err := source.Verify(cmd.Context())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, v)
			} else {
				err = renderVerification(out, v)
			}
			if err == nil && !v.OK {
				err = &exitError{exitFailed}
			}
			return err
		},
	}
	place.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func renderVerification(w io.Writer, v api.BufferVerification) error {
	for _, p := range v.Problems {
		where, what := p.File, p.Kind+": "
		if where == "" {
			where = v.Dir
		}
		switch {
		case p.Kind == string(buffer.ProblemState):
			what = "" // the text says it all
		case p.Stream.Valid() && p.From == p.To:
			what += p.Stream.String() + " " + number(p.From) + ": "
		case p.Stream.Valid():
			what += p.Stream.String() + " " + number(p.From) + " to " + number(p.To) + ": "
		}
		fmt.Fprintf(w, "%s: %s%s\n", where, what, p.Text)
	}
	verdict := "all whole"
	if !v.OK {
		verdict = term.Plural(len(v.Problems), "problem")
	}
	where := term.Count(v.Blocks) + " blocks of " + term.Plural(int(v.Segments), "segment") + ", " + term.Size(v.Bytes)
	if v.Blocks == 0 && v.Records > 0 {
		where = "the head log"
	}
	_, err := fmt.Fprintf(w, "%s: %s records in %s: %s\n", v.Dir, term.Count(v.Records), where, verdict)
	return err
}

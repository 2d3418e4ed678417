package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/term"
	"github.com/edgeagent/edgeagent/rules/anomaly"
)

func newRulesScore() *cobra.Command {
	var data, out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "score",
		Short: "Run the anomaly detector over recorded series and write what it says of each reading",
		Long: `Score runs the detector that "anomaly" in a rule asks over each file DIR/category/file.csv
of --nab, which has the columns timestamp and value, and writes OUT/category/file.csv of
--out with the columns timestamp, value, anomaly_score and score. The detector begins
anew with each file and sees each reading once, in order.

  anomaly_score  how strongly an event begins with this reading; 0 for nearly all
  score          how unusual the series is now

An alert is told from an anomaly_score of 0.5 on. The layout is that of the Numenta
Anomaly Benchmark, so that its scorers read the result; physical checks, which need facts
about a sensor, have no part in it.`,
		Example: `  edgeagent rules score --nab NAB/data --out scores`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" || out == "" {
				return &usageError{withUsage(cmd, errors.New("--nab and --out are both needed"))}
			}
			report, err := scoreAll(cmd.Context(), data, out)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), report)
			}
			return report.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&data, "nab", "", "directory with one folder of CSV files per category")
	cmd.Flags().StringVar(&out, "out", "", "directory to write the same folders and files to")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// scoreReport is the JSON object of "rules score": a contract, see cli-json.md.
type scoreReport struct {
	Threshold float64      `json:"threshold"`
	Rows      int          `json:"rows"`
	Alerts    int          `json:"alerts"`
	Files     []scoredFile `json:"files"`
}

type scoredFile struct {
	File   string `json:"file"`
	Rows   int    `json:"rows"`
	Alerts int    `json:"alerts"`
}

// scoreAll scores each data/category/file.csv into out.
func scoreAll(ctx context.Context, data, out string) (scoreReport, error) {
	report := scoreReport{Threshold: anomaly.Threshold, Files: []scoredFile{}}
	files, err := filepath.Glob(filepath.Join(escapeGlob(data), "*", "*.csv"))
	if err != nil {
		return report, fmt.Errorf("list %s: %w", data, err)
	}
	if len(files) == 0 {
		return report, edgeagent.WithHint(fmt.Errorf("there is no category/file.csv in %s", data),
			"--nab is the directory that holds the folders of the categories")
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		name, err := filepath.Rel(data, file)
		if err != nil {
			return report, err
		}
		s, err := scoreFile(file, filepath.Join(out, name))
		if err != nil {
			return report, fmt.Errorf("score %s: %w", file, err)
		}
		report.Files = append(report.Files, scoredFile{filepath.ToSlash(name), s.Rows, s.Alerts})
		report.Rows += s.Rows
		report.Alerts += s.Alerts
	}
	return report, nil
}

// escapeGlob makes every byte of a path stand for itself in a pattern.
func escapeGlob(path string) string {
	var b []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[':
			b = append(b, '[', path[i], ']')
		default:
			b = append(b, path[i])
		}
	}
	return string(b)
}

// scoreFile writes what a new detector says of from into to.
func scoreFile(from, to string) (s anomaly.Scored, err error) {
	if same(from, to) {
		return s, edgeagent.WithHint(errors.New("the result would overwrite it"), "name another directory with --out")
	}
	in, err := os.Open(from)
	if err != nil {
		return s, err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return s, err
	}
	f, err := os.Create(to)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return anomaly.ScoreCSV(f, in)
}

// same reports whether two paths are one file.
func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func (r scoreReport) print(w io.Writer) error {
	t := term.Table{Right: []int{1, 2}}
	t.Row("FILE", "ROWS", "ALERTS")
	for _, f := range r.Files {
		t.Row(f.File, term.Count(f.Rows), term.Count(f.Alerts))
	}
	t.Row(term.Plural(len(r.Files), "file"), term.Count(r.Rows), term.Count(r.Alerts))
	if err := t.Write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nAlerts are rows with an anomaly_score of %s or more.\n", strconv.FormatFloat(r.Threshold, 'g', -1, 64))
	return err
}

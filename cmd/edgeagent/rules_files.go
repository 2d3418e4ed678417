package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/anomaly"
	"github.com/edgeagent/edgeagent/rules/ruletest"
)

// maxRuleFile is the largest file of rules or tests, in bytes.
const maxRuleFile = 1 << 20

// readYAML reads a YAML file into v.
func readYAML(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRuleFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return configs.Decode(path, text, v)
}

// readRules reads rule files and compiles them together.
func readRules(paths []string) ([]rules.File, *rules.Engine, error) {
	files := make([]rules.File, len(paths))
	var errs error
	for i, path := range paths {
		if err := readYAML(path, &files[i]); err != nil {
			errs = errors.Join(errs, err)
		}
	}
	if errs != nil {
		return nil, nil, errs
	}
	e, err := ruleOptions().Compile(files)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
	}
	return files, e, nil
}

// ruleOptions are those of the agent, but for the time zone: what these commands
// print is the same on every machine.
func ruleOptions() rules.Options {
	return rules.Options{Detector: anomaly.ForRules, Location: time.UTC}
}

func newRulesCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check RULES...",
		Short: "Check rule files and show what each rule takes",
		Long: `Check reads rule files, which are loaded together, reports every mistake with its
place, and prints for each rule the memory of one instance and how many values are
worked out for each evaluation. A rule with a * has one instance per match.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, e, err := readRules(args)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), checkOf(args, e))
			}
			out, total := cmd.OutOrStdout(), int64(0)
			fmt.Fprintf(out, "%-28s %10s %6s\n", "rule", "memory", "calls")
			for _, c := range e.Costs() {
				each := ""
				if c.Many {
					each = " each"
				}
				total += c.Bytes
				fmt.Fprintf(out, "%-28s %10s %6d%s\n", c.Rule, edgeagent.Bytes(c.Bytes), c.Calls, each)
			}
			fmt.Fprintf(out, "%s: ok: %s, %s\n", strings.Join(args, ", "), count(len(e.Rules()), "rule"), edgeagent.Bytes(total))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func jsonFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "json", false, "print one JSON object")
}

func newRulesList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list RULES...",
		Short: "List the rules of files: what they watch, and when they fire",
		Long: `List prints one line per rule: its id, severity, series and condition. Where the
rules of a running agent stand is shown by "edgeagent status".`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, _, err := readRules(args)
			if err != nil {
				return err
			}
			list := listOf(files)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			for _, r := range list.Rules {
				fmt.Fprintf(cmd.OutOrStdout(), "%-28s %-8s %s\n", r.ID, r.Severity, r.When)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newRulesTest() *cobra.Command {
	var junit string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test TESTS...",
		Short: "Play tests of rules and say what did not come as expected",
		Long: `Test plays the stories of test files against the rule files that they name, without
waiting and without an agent. For each expectation that is not met it prints what was
expected, what came, and what happened around it. Rules that fired in no test are named.
Exit code 1 means that a test failed. The format is described in the reference of rules.`,
		Example: `  edgeagent rules test boiler_test.yaml --junit report.xml`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			failed, all := 0, rulesTested{OK: true, Files: []testedFile{}}
			for _, path := range args {
				report, err := testRules(path)
				if err != nil {
					return err
				}
				failed += report.Failed()
				all.add(path, report)
				if !asJSON {
					if err := report.WriteText(cmd.OutOrStdout()); err != nil {
						return err
					}
				}
				if junit != "" {
					if err := writeJUnit(report, junit, path); err != nil {
						return err
					}
				}
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), all); err != nil {
					return err
				}
			}
			if failed > 0 {
				return &exitError{exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&junit, "junit", "", "also write the result as JUnit XML to this file; of several test files the last")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func testRules(path string) (ruletest.Report, error) {
	var f ruletest.File
	if err := readYAML(path, &f); err != nil {
		return ruletest.Report{}, err
	}
	for i, name := range f.Rules {
		if !filepath.IsAbs(name) {
			f.Rules[i] = filepath.Join(filepath.Dir(path), name)
		}
	}
	files, _, err := readRules(f.Rules)
	if err != nil {
		return ruletest.Report{}, err
	}
	return ruletest.Run(files, f.Tests, ruleOptions())
}

func writeJUnit(r ruletest.Report, path, suite string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteJUnit(f, suite), f.Close())
}

// replaySource says where recorded readings come from.
type replaySource struct {
	place               bufferPlace
	data, series, since string
}

func (r *replaySource) flags(cmd *cobra.Command) {
	r.place.flags(cmd)
	cmd.Flags().StringVar(&r.data, "data", "", `CSV file with the columns time_ns, series and value, "-" for standard input, "buffer" for the agent's buffer`)
	cmd.Flags().StringVar(&r.series, "series", "", "name of the series of a CSV file that has no such column")
	cmd.Flags().StringVar(&r.since, "since", "", `of a buffer, only what is younger: "168h", or a time like 2026-11-23T09:00:00Z`)
}

// read calls f with the readings.
func (r *replaySource) read(cmd *cobra.Command, f func(iter.Seq2[edgeagent.Reading, error]) error) error {
	switch r.data {
	case "":
		return &usageError{withUsage(cmd, errors.New("--data is missing"))}
	case "-":
		return f(ruletest.ReadCSV(cmd.InOrStdin(), r.series))
	case "buffer":
		return r.readBuffer(cmd, f)
	}
	file, err := os.Open(r.data)
	if err != nil {
		return err
	}
	defer file.Close()
	return f(ruletest.ReadCSV(file, r.series))
}

// readBuffer reads what "buffer export" prints.
func (r *replaySource) readBuffer(cmd *cobra.Command, f func(iter.Seq2[edgeagent.Reading, error]) error) (err error) {
	if err := r.place.check(cmd); err != nil {
		return err
	}
	source, err := r.place.open(cmd.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	in, out := io.Pipe()
	e, err := newExporter(out, exportOptions{format: "csv", stream: "telemetry", since: r.since}, time.Now())
	if err != nil {
		return &usageError{withUsage(cmd, err)}
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	done := make(chan error, 1)
	go func() {
		_, err := source.Blocks(ctx, api.BlockQuery{Stream: e.stream, Since: e.since}, e.block)
		err = errors.Join(err, e.out.Flush())
		done <- out.CloseWithError(err)
	}()
	err = f(ruletest.ReadCSV(in, ""))
	cancel()
	return errors.Join(err, in.Close(), <-done)
}

func newRulesBacktest() *cobra.Command {
	var from replaySource
	var against string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "backtest RULES...",
		Short: "Run rules over recorded readings and count what they would have done",
		Long: `Backtest runs rules over recorded readings at their own times and prints, for each
rule, how often it would have fired and for how long, and what shaping would have stored.
With --against it lists the alerts that only one of two rule files raises.`,
		Example: `  edgeagent rules backtest rules.yaml --data boiler.csv --against old.yaml
  edgeagent rules backtest rules.yaml --data buffer --since 168h`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, _, err := readRules(args)
			if err != nil {
				return err
			}
			outcome, err := from.replay(cmd, files)
			if err != nil {
				return err
			}
			var was *ruletest.Outcome
			if against != "" {
				if from.data == "-" {
					return &usageError{withUsage(cmd, errors.New("--against reads the data twice: write it to a file"))}
				}
				old, _, err := readRules([]string{against})
				if err != nil {
					return err
				}
				o, err := from.replay(cmd, old)
				if err != nil {
					return err
				}
				was = &o
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), backtestOf(outcome, was))
			}
			return outcome.WriteText(cmd.OutOrStdout(), was)
		},
	}
	from.flags(cmd)
	cmd.Flags().StringVar(&against, "against", "", "rule file to compare with")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (r *replaySource) replay(cmd *cobra.Command, files []rules.File) (out ruletest.Outcome, err error) {
	err = r.read(cmd, func(readings iter.Seq2[edgeagent.Reading, error]) error {
		out, err = ruletest.Replay(files, ruleOptions(), readings)
		return err
	})
	return out, err
}

func newRulesExplain() *cobra.Command {
	var from replaySource
	var at string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain ID RULES...",
		Short: "Show why a rule stands where it stands, part by part",
		Long: `Explain runs rules over recorded readings up to a moment and prints, for each instance of
one rule, its state and the value of each part of its conditions.`,
		Example: `  edgeagent rules explain boiler-overheat rules.yaml --data boiler.csv --at 2026-11-23T09:00:00Z`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, _, err := readRules(args[1:])
			if err != nil {
				return err
			}
			var moment time.Time
			if at != "" {
				if moment, err = time.Parse(time.RFC3339Nano, at); err != nil {
					return &usageError{withUsage(cmd, fmt.Errorf("bad time %q for --at, write it like 2026-11-23T09:00:00Z", at))}
				}
			}
			return from.read(cmd, func(readings iter.Seq2[edgeagent.Reading, error]) error {
				x, err := ruletest.Explain(files, ruleOptions(), readings, args[0], moment)
				switch {
				case err != nil:
					return err
				case asJSON:
					return printJSON(cmd.OutOrStdout(), explanationOf(x))
				}
				return x.WriteText(cmd.OutOrStdout())
			})
		},
	}
	from.flags(cmd)
	cmd.Flags().StringVar(&at, "at", "", "the moment, as 2026-11-23T09:00:00Z; default: the last reading")
	jsonFlag(cmd, &asJSON)
	return cmd
}

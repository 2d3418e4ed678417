package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
)

func newConfig() *cobra.Command {
	cmd := group("config", "Check a configuration", "")
	cmd.AddCommand(newConfigCheck())
	return cmd
}

func newConfigCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration and the rule files it names, without starting anything",
		Long: `Check reads FILE and the rule files it names and reports every mistake with its
place. It touches no sensor, no network and no buffer. Exit code 0 means that
"edgeagent run -c FILE" would accept it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := configs.Load(args[0], configs.Options{Drivers: agent.Drivers()})
			if asJSON {
				return printCheck(cmd, args[0], err)
			}
			if err != nil {
				return err
			}
			rules := 0
			for _, f := range cfg.RuleFiles {
				rules += len(f.File.Rules)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: %s, %s, %s\n", args[0],
				count(len(cfg.Sensors), "sensor"), count(rules, "rule"), count(len(cfg.Destinations), "destination"))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// printCheck prints the result of a check as one object; problems are part of the
// result, so they go to standard output.
func printCheck(cmd *cobra.Command, file string, err error) error {
	type problem struct {
		File    string `json:"file"`
		Line    int    `json:"line"`
		Col     int    `json:"col"`
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
	}
	result := struct {
		File   string    `json:"file"`
		OK     bool      `json:"ok"`
		Errors []problem `json:"errors"`
	}{File: file, OK: err == nil, Errors: []problem{}}
	var problems configs.Errors
	switch {
	case errors.As(err, &problems):
		for _, p := range problems {
			result.Errors = append(result.Errors, problem{p.File, p.Line, p.Col, p.Message, p.Hint})
		}
	case err != nil:
		result.Errors = append(result.Errors, problem{File: file, Message: err.Error()})
	}
	if jsonErr := printJSON(cmd.OutOrStdout(), result); jsonErr != nil {
		return jsonErr
	}
	if err != nil {
		return &exitError{exitFailed}
	}
	return nil
}

// count returns "1 sensor", "2 sensors".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check a configuration", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newConfigCheck())
	return cmd
}

func newConfigCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration without starting anything",
		Long: `Check reads FILE and reports every mistake with its place. It opens nothing and reads no
secret. Exit code 0 means that "edgehub serve -c FILE" would accept it.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return usageError{edgeagent.WithHint(err, fmt.Sprintf("see %q", cmd.CommandPath()+" --help"))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadConfig(args[0])
			if asJSON {
				return printCheck(cmd, args[0], err)
			}
			if err != nil {
				return err
			}
			inputs := len(c.Inputs)
			if c.Broker.on() {
				inputs++
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: inputs %d, sink %s\n", args[0], inputs, c.Sink.Type)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// printCheck prints the result of a check as one object; problems are part of it.
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
	if perr := printJSON(cmd.OutOrStdout(), result); perr != nil {
		return perr
	}
	if err != nil {
		return errQuiet
	}
	return nil
}

// errQuiet ends the program with 1; what there is to say has been said.
var errQuiet = errors.New("")

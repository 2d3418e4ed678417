package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/service"
)

func newGPIO() *cobra.Command {
	cmd := group("gpio", "Work with the outputs that rules drive", "")
	cmd.AddCommand(newGPIOSafe())
	return cmd
}

func newGPIOSafe() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "safe",
		Short: "Set every output to its safe state, when no agent runs",
		Long: `Safe sets each output of the configuration to what the rules say under on_exit, else
to its key safe. The service does so after the agent has ended, also when it was killed.
A running agent holds its outputs: they are refused then, and nothing happens to them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := configs.Load(path, configs.Options{Drivers: agent.Drivers()})
			if err != nil {
				return err
			}
			return printSafe(cmd, agent.SafeOutputs(cfg, nil), asJSON)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", service.DefaultConfig, "configuration file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func printSafe(cmd *cobra.Command, list []agent.SafeOutput, asJSON bool) error {
	type output struct {
		Name  string `json:"name"`
		Level string `json:"level"`
		OK    bool   `json:"ok"`
		Error string `json:"error,omitempty"`
	}
	result := struct {
		Outputs []output `json:"outputs"`
	}{[]output{}}
	var failed error
	for _, o := range list {
		x := output{Name: o.Name, Level: "low", OK: o.Err == nil}
		if o.High {
			x.Level = "high"
		}
		if o.Err != nil {
			x.Error, failed = o.Err.Error(), o.Err
		}
		result.Outputs = append(result.Outputs, x)
		switch {
		case asJSON:
		case o.Err != nil:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: not set: %v\n", x.Name, o.Err)
		default:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", x.Name, x.Level)
		}
	}
	if asJSON {
		if err := printJSON(cmd.OutOrStdout(), result); err != nil {
			return err
		}
	}
	switch {
	case failed == nil:
		return nil
	case asJSON:
		return &exitError{exitFailed}
	}
	return edgeagent.WithHint(fmt.Errorf("not all outputs are in their safe state: %w", failed),
		`a running agent holds its outputs: look with "edgeagent status"; else check the group gpio`)
}

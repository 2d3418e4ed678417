package main

import "github.com/spf13/cobra"

func newRules() *cobra.Command {
	cmd := group("rules", "Work with rules and anomaly detectors",
		`These commands need no running agent: they work on files.`)
	cmd.AddCommand(newRulesCheck(), newRulesTest(), newRulesBacktest(), newRulesExplain(), newRulesList(), newRulesScore())
	return cmd
}

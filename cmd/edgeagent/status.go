package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/term"
)

func newStatus() *cobra.Command {
	var asJSON bool
	var socket string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the running agent is doing",
		Long: `Status asks the running agent over its local socket: health first, then sensors,
buffer, uplinks and rules. Exit code 0 means healthy, 3 degraded or worse, 1 that
no agent answered.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			client, err := api.Dial(ctx, socket)
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }() // never fails
			status, err := client.Status(ctx)
			if err != nil {
				return fmt.Errorf("ask the agent: %w", err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, status)
			} else {
				err = api.RenderStatus(out, status, term.Width(out))
			}
			if err == nil && status.Health.Level != edgeagent.OK {
				err = &exitError{exitDegraded}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&socket, "socket", "", "the agent's socket (default: where the agent puts it)")
	return cmd
}

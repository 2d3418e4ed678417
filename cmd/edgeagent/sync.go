package main

import "github.com/spf13/cobra"

func newSync() *cobra.Command {
	cmd := group("sync", "Look after the way to the cloud: check a link, send everything now, measure",
		`Sync is about the destinations of the configuration: whether each of their links
works, step by step, and what a running agent still has to send.`)
	cmd.AddCommand(newSyncCheck(), newSyncFlush(), newSyncBench())
	return cmd
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/service"
)

func newService() *cobra.Command {
	var o service.Options
	cmd := group("service", "Install and control the agent as a system service",
		`Service installs "edgeagent run" with the machine's service manager: on systemd with
a unit of our own and a system user, elsewhere with the manager's usual script.
Uninstall keeps configuration and buffer.`)
	cmd.PersistentFlags().StringVar(&o.Name, "name", service.DefaultName, "name of the service")
	cmd.AddCommand(
		newServiceInstall(&o),
		serviceVerb("uninstall", "Stop the service and remove it; configuration and buffer stay", "removed", &o, service.Uninstall),
		serviceVerb("start", "Start the installed service now", "started", &o, service.Start),
		serviceVerb("stop", "Stop the service until the next boot or start", "stopped", &o, service.Stop),
		serviceVerb("restart", "Stop the service and start it anew", "restarted", &o, service.Restart),
		newServiceStatus(&o),
	)
	return cmd
}

func newServiceInstall(o *service.Options) *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the service and have it started at boot; start nothing now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if show {
				var err error
				if o.ExecPath, err = os.Executable(); err != nil {
					return fmt.Errorf("find this program: %w", err)
				}
				unit, err := service.Render(*o)
				if err == nil {
					_, err = io.WriteString(cmd.OutOrStdout(), unit)
				}
				return err
			}
			if _, err := configs.Load(o.ConfigPath, configs.Options{Drivers: agent.Drivers()}); err != nil {
				return err
			}
			done, err := service.Install(cmd.Context(), *o)
			if err != nil {
				return err
			}
			printInstalled(cmd.OutOrStdout(), o.Name, done)
			return nil
		},
	}
	cmd.Flags().StringVarP(&o.ConfigPath, "config", "c", service.DefaultConfig, "configuration file of the service")
	cmd.Flags().StringVar(&o.User, "user", "", "user that the service runs as, on systemd (default: edgeagent, made if missing)")
	cmd.Flags().BoolVar(&show, "print", false, "print the systemd unit and install nothing")
	return cmd
}

func printInstalled(w io.Writer, name string, done service.Installed) {
	fmt.Fprintf(w, "installed %s (%s)\n", name, done.Platform)
	for _, note := range done.Notes {
		fmt.Fprintf(w, "  %s\n", note)
	}
	if done.UnitPath != "" {
		fmt.Fprintf(w, "  wrote %s:\n\n%s\n", done.UnitPath, done.Unit)
	}
	fmt.Fprintln(w, "start it with: edgeagent service start")
}

func serviceVerb(verb, short, done string, o *service.Options, act func(context.Context, service.Options) error) *cobra.Command {
	return &cobra.Command{
		Use: verb, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := act(cmd.Context(), *o); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", done, o.Name)
			return nil
		},
	}
}

func newServiceStatus(o *service.Options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print whether the service runs; exit code 0 running, 3 not running, 1 not installed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := service.Status(cmd.Context(), *o)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), struct {
					Name  string        `json:"name"`
					State service.State `json:"state"`
				}{o.Name, state})
			} else {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", o.Name, state)
			}
			if code := state.ExitCode(); err == nil && code != exitOK {
				err = &exitError{code}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

package service_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/edgeagent/edgeagent/internal/service"
)

func ExampleRun() {
	ctx, cancel := context.WithCancel(context.Background())
	err := service.Run(ctx, service.Program{
		Start: func(ctx context.Context, notify service.Notifier) error {
			notify.Ready("6 sensors, 1 uplink")
			cancel() // as a SIGTERM does
			<-ctx.Done()
			fmt.Println("buffer closed")
			return nil
		},
	})
	fmt.Println(err)
	// Output:
	// buffer closed
	// <nil>
}

func ExampleRender() {
	unit, err := service.Render(service.Options{
		ExecPath:   "/usr/local/bin/edgeagent",
		ConfigPath: "/etc/edgeagent/hall 3.yaml",
		Groups:     []string{"i2c"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(unit) {
		if strings.HasPrefix(line, "Exec") || strings.HasPrefix(line, "Supp") {
			fmt.Print(line)
		}
	}
	// Output:
	// SupplementaryGroups=i2c
	// ExecStartPre=/usr/local/bin/edgeagent config check "/etc/edgeagent/hall 3.yaml"
	// ExecStart=/usr/local/bin/edgeagent run -c "/etc/edgeagent/hall 3.yaml"
	// ExecStopPost=-/usr/local/bin/edgeagent gpio safe -c "/etc/edgeagent/hall 3.yaml"
}

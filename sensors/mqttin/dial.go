package mqttin

import (
	"bufio"
	"context"
	"net"
	"net/url"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// openConnection dials for the library, which knows no contexts.
func openConnection(ctx context.Context, address string) mqtt.OpenConnectionFunc {
	return func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return &limited{Conn: c, in: bufio.NewReaderSize(c, 16<<10), shift: -1}, nil
	}
}

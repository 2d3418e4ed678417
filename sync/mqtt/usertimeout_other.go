//go:build !linux

package mqtt

import (
	"net"
	"time"
)

// setUserTimeout asks for TCP keep-alive probes that give up after about d. It
// finds a dead peer only while the connection is idle; the write timeout does
// the rest.
func setUserTimeout(c net.Conn, d time.Duration) {
	if t, ok := c.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d / 2, Interval: d / 6, Count: 3})
	}
}

package api

// Config is the local API's part of the configuration.
type Config struct {
	// Socket is the path of the unix socket; default: see [SocketPath].
	Socket string `yaml:"socket"`
	// Listen is an optional loopback address such as "127.0.0.1:8390"; off by
	// default.
	Listen string `yaml:"listen"`
}

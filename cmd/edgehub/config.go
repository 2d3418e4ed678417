package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/web"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// config is edgehub's configuration file.
type config struct {
	// Version of the format: 1. It must be written.
	Version int `yaml:"version"`
	// Name is how acknowledgements are signed: the receiver option of gateways.
	Name string `yaml:"name"`
	// State is the directory for everything that must outlive a restart.
	State  string        `yaml:"state"`
	Broker brokerConfig  `yaml:"broker"`
	Inputs []inputConfig `yaml:"inputs"`
	Sink   sinkConfig    `yaml:"sink"`
	Replay replayConfig  `yaml:"replay"`
	HTTP   web.Config    `yaml:"http"`
	Ack    time.Duration `yaml:"ack_every"`
	Log    logConfig     `yaml:"log"`
	dir    string        // that relative names start from
}

// brokerConfig is the broker of edgehub's own.
type brokerConfig struct {
	Listen string       `yaml:"listen"` // host:port, or off
	TLS    web.TLS      `yaml:"tls"`
	Users  []userConfig `yaml:"users"`
}

// userConfig is a gateway that may log in.
type userConfig struct {
	Name     string           `yaml:"name"`
	Password edgeagent.Secret `yaml:"password"`
	Tenant   string           `yaml:"tenant"`
	Device   string           `yaml:"device"` // default Name
}

// inputConfig is where messages come from besides the own broker.
type inputConfig struct {
	Name string `yaml:"name"`
	// URL is mqtt://, mqtts://, ws:// or wss:// of a broker, nats:// of a cluster, or
	// coap://, coaps://, coap+tcp:// or coaps+tcp:// to listen at.
	URL      string           `yaml:"url"`
	ClientID string           `yaml:"client_id"`
	Username string           `yaml:"username"`
	Password edgeagent.Secret `yaml:"password"`
	Tenant   string           `yaml:"tenant"` // default + for all
	// Group makes it a shared subscription (MQTT 5): each message goes to one member.
	Group string           `yaml:"group"`
	TLS   uplink.TLSConfig `yaml:"tls"`
	// Stream and Durable name the JetStream stream and its consumer.
	Stream  string `yaml:"stream"`
	Durable string `yaml:"durable"`
	// Replicas of a stream that is made.
	Replicas int `yaml:"replicas"`
}

// sinkConfig is where records go.
type sinkConfig struct {
	Type string `yaml:"type"`
	// URL of postgres, line, kafka or nats; a file or directory for sqlite and files.
	URL      string           `yaml:"url"`
	Username string           `yaml:"username"`
	Password edgeagent.Secret `yaml:"password"`
	Token    edgeagent.Secret `yaml:"token"`
	Topic    string           `yaml:"topic"`  // kafka
	Stream   string           `yaml:"stream"` // nats
	Format   string           `yaml:"format"` // files: block or jsonl
}

// replayConfig says what gateways are asked to send again.
type replayConfig struct {
	Policy string        `yaml:"policy"`
	After  time.Duration `yaml:"after"`
}

type logConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text or json
}

const (
	defaultBroker = "127.0.0.1:1883"
	defaultHTTP   = "127.0.0.1:8399"
	defaultTenant = "default"
)

// defaultConfig is a hub on one machine that nobody has configured.
func defaultConfig() *config {
	return &config{
		Name: "hub", Broker: brokerConfig{Listen: defaultBroker}, Sink: sinkConfig{Type: "sqlite"},
		Replay: replayConfig{Policy: "new", After: 30 * time.Second}, Ack: 200 * time.Millisecond,
		HTTP: web.Config{Listen: defaultHTTP}, Log: logConfig{Level: "info", Format: "text"},
	}
}

// loadConfig reads the file at path, or returns the defaults if there is none.
func loadConfig(path string) (*config, error) {
	c := defaultConfig()
	if path == "" {
		c.Version = 1
		return c, nil
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("read configuration: %w", err), `name another file with -c FILE`)
	}
	c.dir = filepath.Dir(path)
	if err := configs.Decode(path, source, c); err != nil {
		return nil, err
	}
	return c, nil
}

// Validate says everything that is wrong.
func (c *config) Validate() error {
	var errs []error
	if c.Version != 1 {
		errs = append(errs, edgeagent.Field("version", "must be 1"))
	}
	if c.Name == "" || len(c.Name) > 64 {
		errs = append(errs, edgeagent.Field("name", "a name has 1 to 64 bytes"))
	}
	if _, err := hub.ParseReplayPolicy(c.Replay.Policy); err != nil {
		errs = append(errs, edgeagent.InField("replay.policy", err))
	}
	if c.Replay.After < time.Second || c.Replay.After > time.Hour {
		errs = append(errs, edgeagent.Field("replay.after", "must be 1s to 1h"))
	}
	if c.Ack < 10*time.Millisecond || c.Ack > time.Minute {
		errs = append(errs, edgeagent.Field("ack_every", "must be 10ms to 1m"))
	}
	errs = append(errs,
		edgeagent.InField("broker", c.Broker.validate()),
		edgeagent.InField("sink", c.Sink.validate()),
		edgeagent.InField("http", c.HTTP.Validate()),
		edgeagent.InField("log", c.Log.validate()))
	names := map[string]bool{}
	for i, in := range c.Inputs {
		at := "inputs[" + strconv.Itoa(i) + "]"
		errs = append(errs, edgeagent.InField(at, in.validate(len(c.Broker.Users))))
		if names[in.name(i)] {
			errs = append(errs, edgeagent.Field(at+".name", "two inputs are called %q", in.name(i)))
		}
		names[in.name(i)] = true
	}
	if !c.Broker.on() && len(c.Inputs) == 0 {
		errs = append(errs, edgeagent.WithHint(edgeagent.Field("broker.listen", "without a broker of its own the hub needs inputs"),
			`add "inputs: [{url: mqtt://broker:1883}]", or set "broker.listen" to an address`))
	}
	return errors.Join(errs...)
}

func (b brokerConfig) on() bool { return b.Listen != "" && b.Listen != web.Off }

func (b brokerConfig) validate() error {
	if !b.on() {
		return nil
	}
	errs := []error{edgeagent.InField("tls", b.TLS.Validate())}
	host, _, err := net.SplitHostPort(b.Listen)
	if err != nil {
		errs = append(errs, edgeagent.Field("listen", `bad address %q, write it like 127.0.0.1:1883 or :1883`, b.Listen))
	} else if !loopback(host) && len(b.Users) == 0 && b.TLS.ClientCA == "" {
		errs = append(errs, edgeagent.WithHint(edgeagent.Field("listen", "another address than loopback needs users or client certificates"),
			`add "broker.users", or "broker.tls" with client_ca`))
	}
	seen := map[string]bool{}
	for i, u := range b.Users {
		at := "users[" + strconv.Itoa(i) + "]"
		switch {
		case u.Name == "" || seen[u.Name]:
			errs = append(errs, edgeagent.Field(at+".name", "every user has a name of its own"))
		case u.Password.IsZero():
			errs = append(errs, edgeagent.Field(at+".password", `must be "file:/path" or "env:NAME"`))
		case strings.ContainsAny(u.Tenant+u.device(), "/+#"):
			errs = append(errs, edgeagent.Field(at, `tenant and device hold none of "/", "+" and "#"`))
		}
		seen[u.Name] = true
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (u userConfig) device() string {
	if u.Device != "" {
		return u.Device
	}
	return u.Name
}

func (u userConfig) tenant() string {
	if u.Tenant != "" {
		return u.Tenant
	}
	return defaultTenant
}

func (in inputConfig) name(i int) string {
	switch {
	case in.Name != "":
		return in.Name
	case i == 0:
		return "input"
	}
	return "input" + strconv.Itoa(i+1)
}

func (in inputConfig) scheme() string {
	scheme, _, _ := strings.Cut(in.URL, "://")
	return scheme
}

func (in inputConfig) isNATS() bool { return in.scheme() == "nats" || in.scheme() == "tls" }

func (in inputConfig) validate(users int) error {
	var errs []error
	switch u, err := url.Parse(in.URL); {
	case (err != nil || u.Host == "") && !in.isNATS(): // of a cluster several, with commas
		errs = append(errs, edgeagent.Field("url", "bad address %q, write it like mqtt://broker:1883", in.URL))
	case in.isNATS():
		if in.Stream == "" {
			errs = append(errs, edgeagent.Field("stream", "which JetStream stream holds the messages?"))
		}
		if in.Group != "" {
			errs = append(errs, edgeagent.Field("group", "workers share a durable consumer on nats: name it with durable"))
		}
		if in.Replicas < 0 || in.Replicas > 5 {
			errs = append(errs, edgeagent.Field("replicas", "must be 1 to 5"))
		}
	case in.isCoAP():
		errs = append(errs, in.validateCoAP(u, users))
	case !slices.Contains([]string{"mqtt", "mqtts", "ws", "wss", "tcp", "ssl"}, in.scheme()):
		errs = append(errs, edgeagent.Field("url", "unknown scheme %q, want mqtt, mqtts, ws, wss, nats, coap, coaps, coap+tcp or coaps+tcp", in.scheme()))
	}
	if strings.ContainsAny(in.Group, "/+#") {
		errs = append(errs, edgeagent.Field("group", `a group holds none of "/", "+" and "#"`))
	}
	errs = append(errs, edgeagent.InField("tls", in.TLS.Validate()))
	return errors.Join(errs...)
}

func (l logConfig) validate() error {
	var errs []error
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		errs = append(errs, edgeagent.Field("level", "unknown level %q, want debug, info, warn or error", l.Level))
	}
	if l.Format != "text" && l.Format != "json" {
		errs = append(errs, edgeagent.Field("format", "unknown format %q, want text or json", l.Format))
	}
	return errors.Join(errs...)
}

// resolve reads what the secrets name.
func (c *config) resolve() error {
	secrets := []*edgeagent.Secret{&c.HTTP.Token, &c.Sink.Password, &c.Sink.Token}
	for i := range c.Inputs {
		secrets = append(secrets, &c.Inputs[i].Password)
	}
	for i := range c.Broker.Users {
		secrets = append(secrets, &c.Broker.Users[i].Password)
	}
	var errs []error
	for _, s := range secrets {
		if !s.IsZero() {
			errs = append(errs, s.Resolve(c.dir))
		}
	}
	return errors.Join(errs...)
}

// file returns a name of the configuration as the program opens it.
func (c *config) file(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// stateDir returns the directory for state, which it makes: that of the configuration,
// else $STATE_DIRECTORY, else /var/lib/edgehub as root, else the user's own.
func (c *config) stateDir() (string, error) {
	dir := c.file(c.State)
	if dir == "" {
		var err error
		if dir, err = defaultStateDir(); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", edgeagent.WithHint(fmt.Errorf("state directory: %w", err), `name another with --state DIR`)
	}
	return dir, nil
}

func defaultStateDir() (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return dir, nil
	}
	if os.Getuid() == 0 {
		return "/var/lib/edgehub", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "edgehub"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", edgeagent.WithHint(errors.New("no directory for state: neither $STATE_DIRECTORY nor $HOME is set"), "name one with --state DIR")
	}
	return filepath.Join(home, ".local", "state", "edgehub"), nil
}

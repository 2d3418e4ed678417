package uplink

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Config is one destination. A zero value stands for the default; see
// [Config.WithDefaults].
type Config struct {
	Name     string       `yaml:"name"`
	Links    []LinkConfig `yaml:"links"`    // tried in order, at most 8
	Format   string       `yaml:"format"`   // block, line, json, senml-json, senml-cbor; default block with a receiver, else senml-cbor if the first link is CoAP, else line
	Ack      AckLevel     `yaml:"ack"`      // transport, reason, end_to_end; default end_to_end for block
	Receiver string       `yaml:"receiver"` // the name that end-to-end acks must bear
	// DurableAck: what the ack level confirms is held for good, so that the buffer need
	// not sync it. End-to-end acks always are.
	DurableAck   bool         `yaml:"durable_ack"`
	Start        Start        `yaml:"start"`         // of a new destination: oldest (default) or now
	Compression  Compression  `yaml:"compression"`   // of text: none (default), gzip, lz4
	NoSubscriber NoSubscriber `yaml:"no_subscriber"` // when nobody is subscribed: wait (default) or accept

	LiveWindow     time.Duration   `yaml:"live_window"`     // default 60s
	Linger         time.Duration   `yaml:"linger"`          // default 500ms
	AckTimeout     time.Duration   `yaml:"ack_timeout"`     // default 20s, 2m if the first link is CoAP
	ConfirmTimeout time.Duration   `yaml:"confirm_timeout"` // default 5m
	MaxInFlight    int             `yaml:"max_in_flight"`   // messages, default 64, at most 64
	MaxMessage     edgeagent.Bytes `yaml:"max_message"`     // default 256KiB, at most 256KiB
	Order          Order           `yaml:"order"`           // of the backlog: oldest (default) or newest first
	BacklogShare   int             `yaml:"backlog_share"`   // percent of the bytes while live wants all; default 10, 1 to 50
	BacklogRate    edgeagent.Bytes `yaml:"backlog_rate"`    // bytes a second of backlog alone, 0 = no bound
	Reconnect      ReconnectConfig `yaml:"reconnect"`
	Rate           edgeagent.Bytes `yaml:"rate"`  // bytes a second on the wire, 0 = no bound
	Burst          edgeagent.Bytes `yaml:"burst"` // bytes that may go at once after a rest; default 8 s of Rate
	Quota          QuotaConfig     `yaml:"quota"`
	Connect        ConnectConfig   `yaml:"connect"`
}

// LinkConfig is one way to reach a destination.
type LinkConfig struct {
	URL       string           `yaml:"url"` // mqtt://host:1883, mqtts://host:8883, ws://host/mqtt, wss://host/mqtt, coap://host, coaps://host, coap+tcp://host, coaps+tcp://host
	ClientID  string           `yaml:"client_id"`
	Username  string           `yaml:"username"`
	Password  edgeagent.Secret `yaml:"password"` // file:… or env:…
	KeepAlive time.Duration    `yaml:"keep_alive"`
	// Protocol is the version of MQTT: auto (default; 5, and 3.1.1 where a server does
	// not speak it), 3.1.1 or 5.
	Protocol string `yaml:"protocol"`
	// MessageExpiry is how long a server that speaks MQTT 5 may keep a message of
	// readings for a subscriber who is away; default for ever. Alarms and events do
	// not expire.
	MessageExpiry time.Duration `yaml:"message_expiry"`
	// NStart is how many datagrams of CoAP may be without an acknowledgement; default 1,
	// as RFC 7252 asks for, at most 4.
	NStart int         `yaml:"nstart"`
	TLS    TLSConfig   `yaml:"tls"` // of mqtts, wss, coaps and coaps+tcp
	Proxy  ProxyConfig `yaml:"proxy"`
}

// The versions of MQTT that a link may ask for.
const (
	ProtocolAuto  = "auto"
	ProtocolMQTT3 = "3.1.1"
	ProtocolMQTT5 = "5"
)

// ReconnectConfig shapes the back-off: decorrelated jitter between Base and Cap.
type ReconnectConfig struct {
	Base   time.Duration `yaml:"base"`   // default 1s
	Cap    time.Duration `yaml:"cap"`    // default 2m
	Spread time.Duration `yaml:"spread"` // first try after a healthy session waits U(0, spread); default 5s, or base if that is under 1s
}

// AckLevel says what confirms a record.
type AckLevel string

// The ack levels.
const (
	AckTransport AckLevel = "transport"
	// AckReason is the transport's word with a reason code (MQTT 5, CoAP): a session
	// without such codes is not used.
	AckReason   AckLevel = "reason"
	AckEndToEnd AckLevel = "end_to_end"
)

// Start says where a new destination begins.
type Start string

// The starts.
const (
	StartOldest Start = "oldest"
	StartNow    Start = "now"
)

// Order is the order in which backlog is sent.
type Order string

// The orders. Newest sends the newest epoch's backlog from its end, in parts of about
// 4,096 records that are each in order, and the epochs before it oldest first.
const (
	OldestFirst Order = "oldest"
	NewestFirst Order = "newest"
)

// NoSubscriber says what a message is that the server took and nobody will get. Only a
// transport with reason codes can tell.
type NoSubscriber string

// What to do without a subscriber.
const (
	WaitForSubscriber NoSubscriber = "wait"   // the lane is tried again, from 10 s up to 5 min
	AcceptAnyway      NoSubscriber = "accept" // it counts as delivered
)

// Compression of text formats. Blocks are compressed anyway.
type Compression string

// The compressions.
const (
	NoCompression Compression = "none"
	Gzip          Compression = "gzip" // RFC 1952
	LZ4           Compression = "lz4"  // an LZ4 frame
)

// The formats. Block is the buffer's own; the others are text and made by
// sync/wire.
const (
	FormatBlock     = "block"
	FormatLine      = "line"
	FormatJSON      = "json"
	FormatSenMLJSON = "senml-json"
	FormatSenMLCBOR = "senml-cbor"
)

// DefaultReceiver is the name edgehub gives itself.
const DefaultReceiver = "hub"

// Bounds of the configuration.
const (
	maxLinks       = 8
	maxInFlight    = 64
	maxMessage     = 256 << 10
	leastMessage   = 8 << 10 // the largest event fits
	maxLiveWindow  = 24 * time.Hour
	maxLinger      = 10 * time.Second
	maxTimeout     = time.Hour
	maxBackoff     = 24 * time.Hour
	leastBackoff   = 10 * time.Millisecond
	defaultShare   = 10 // percent
	mostShare      = 50
	maxKeepAlive   = 20 * time.Minute
	leastKeepAlive = time.Second
	leastExpiry    = time.Second
	maxExpiry      = 365 * 24 * time.Hour
)

// WithDefaults returns c with the defaults in place of zero values.
func (c Config) WithDefaults() Config {
	c.Format = or(c.Format, c.defaultFormat())
	if c.Ack == "" {
		c.Ack = AckTransport
		if c.Format == FormatBlock {
			c.Ack = AckEndToEnd
		}
	}
	if c.Ack == AckEndToEnd {
		c.Receiver = or(c.Receiver, DefaultReceiver)
	}
	c.LiveWindow = or(c.LiveWindow, time.Minute)
	linger := 500 * time.Millisecond
	if c.Quota.Limit > 0 {
		linger = 10 * time.Second // small messages cost more than the readings in them
	}
	c.Linger = or(c.Linger, min(linger, c.LiveWindow))
	if c.firstIsCoAP() {
		c.AckTimeout = or(c.AckTimeout, coapAckTimeout)
	}
	c.AckTimeout = or(c.AckTimeout, 20*time.Second)
	c.ConfirmTimeout = or(c.ConfirmTimeout, 5*time.Minute)
	c.MaxInFlight = or(c.MaxInFlight, maxInFlight)
	c.MaxMessage = or(c.MaxMessage, maxMessage)
	c.Reconnect = c.Reconnect.withDefaults()
	c.Start = or(c.Start, StartOldest)
	c.Compression = or(c.Compression, NoCompression)
	c.NoSubscriber = or(c.NoSubscriber, WaitForSubscriber)
	c.Order = or(c.Order, OldestFirst)
	c.BacklogShare = or(c.BacklogShare, defaultShare)
	if c.Rate > 0 {
		c.Burst = or(c.Burst, max(8*c.Rate, leastBurst))
	}
	c.Quota, c.Connect = c.Quota.withDefaults(), c.Connect.withDefaults()
	return c
}

func (c Config) defaultFormat() string {
	if c.Receiver != "" {
		return FormatBlock
	}
	if c.firstIsCoAP() {
		return FormatSenMLCBOR
	}
	return FormatLine
}

func (r ReconnectConfig) withDefaults() ReconnectConfig {
	r.Base = or(r.Base, time.Second)
	r.Cap = or(r.Cap, max(2*time.Minute, r.Base))
	spread := 5 * time.Second
	if r.Base < time.Second {
		spread = r.Base
	}
	r.Spread = or(r.Spread, spread)
	return r
}

// or returns v, or def when v is the zero value.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Validate checks the configuration. Zero values stand for the defaults. The errors
// are joined [edgeagent.FieldError] values.
func (c Config) Validate() error {
	d := c.WithDefaults()
	errs := []error{c.validateLinks(), c.validateFormat(d), c.validateWords(d), d.Reconnect.validate(), d.validateBudget()}
	if c.Name == "" {
		errs = append(errs, edgeagent.Field("name", "missing key name"))
	}
	errs = append(errs,
		within("live_window", d.LiveWindow, time.Second, maxLiveWindow),
		within("linger", d.Linger, time.Millisecond, min(maxLinger, max(d.LiveWindow, time.Millisecond))),
		within("ack_timeout", d.AckTimeout, time.Second, maxTimeout),
		within("confirm_timeout", d.ConfirmTimeout, time.Second, maxTimeout))
	if d.MaxInFlight < 1 || d.MaxInFlight > maxInFlight {
		errs = append(errs, edgeagent.Field("max_in_flight", "%d is out of range, want 1 to %d messages", d.MaxInFlight, maxInFlight))
	}
	if d.MaxMessage < leastMessage || d.MaxMessage > maxMessage {
		errs = append(errs, edgeagent.Field("max_message", "%s is out of range, want 8KiB to 256KiB", d.MaxMessage))
	}
	return errors.Join(errs...)
}

func (c Config) validateLinks() error {
	if len(c.Links) == 0 {
		return edgeagent.Field("links", "no link: write one like [{url: mqtt://host:1883}]")
	}
	var errs []error
	for i, l := range c.Links {
		errs = append(errs, edgeagent.InField("links["+strconv.Itoa(i)+"]", l.Validate()))
		if c.Ack == AckReason && l.Protocol == ProtocolMQTT3 {
			errs = append(errs, hinted("links["+strconv.Itoa(i)+"].protocol", errors.New("MQTT 3.1.1 has no reason codes, which ack: reason needs"),
				"use protocol: auto or \"5\", or ack: transport"))
		}
	}
	if len(c.Links) > maxLinks {
		errs = append(errs, edgeagent.Field("links", "%d links are too many, at most %d", len(c.Links), maxLinks))
	}
	return errors.Join(errs...)
}

// validateFormat holds format, ack level and receiver against one another; d is c
// with its defaults.
func (c Config) validateFormat(d Config) error {
	text := d.Format != FormatBlock
	var errs []error
	switch d.Format {
	case FormatBlock, FormatLine, FormatJSON, FormatSenMLJSON, FormatSenMLCBOR:
	case "sparkplug", "homeassistant", "thingsboard":
		errs = append(errs, later("format", "format "+d.Format, "use line or json"))
	default:
		return edgeagent.Field("format", "unknown format %q, want block, line, json, senml-json or senml-cbor", d.Format)
	}
	switch d.Ack {
	case AckTransport, AckReason:
	case AckEndToEnd:
		if text {
			errs = append(errs, hinted("ack", fmt.Errorf("format %s has no receiver that could acknowledge end to end", d.Format),
				"use ack: transport, or format: block with a receiver"))
		}
	default:
		errs = append(errs, edgeagent.Field("ack", "unknown ack level %q, want transport, reason or end_to_end", d.Ack))
	}
	if text && c.Receiver != "" {
		errs = append(errs, hinted("receiver", fmt.Errorf("a receiver reads blocks, not %s", d.Format),
			"drop receiver, or use format: block"))
	}
	return errors.Join(errs...)
}

// validateWords checks the keys that take one of a few words, and the backlog's share.
func (c Config) validateWords(d Config) error {
	errs := []error{
		oneOf("start", d.Start, StartOldest, StartNow),
		oneOf("compression", d.Compression, NoCompression, Gzip, LZ4),
		c.validateCompression(d),
		oneOf("no_subscriber", d.NoSubscriber, WaitForSubscriber, AcceptAnyway),
		oneOf("order", d.Order, OldestFirst, NewestFirst),
	}
	if d.Format == FormatBlock && (c.Compression == Gzip || c.Compression == LZ4) {
		errs = append(errs, hinted("compression", errors.New("blocks are compressed already"), "drop compression, or use a text format"))
	}
	if d.BacklogShare < 1 || d.BacklogShare > mostShare {
		errs = append(errs, edgeagent.Field("backlog_share", "%d is out of range, want 1 to %d percent", d.BacklogShare, mostShare))
	}
	return errors.Join(errs...)
}

// oneOf checks a word. The last of the allowed ones is named with "or".
func oneOf[T ~string](path string, v T, allowed ...T) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = string(a)
	}
	last := len(words) - 1
	return edgeagent.Field(path, "unknown value %q, want %s or %s", string(v), strings.Join(words[:last], ", "), words[last])
}

func (r ReconnectConfig) validate() error {
	return edgeagent.InField("reconnect", errors.Join(
		within("base", r.Base, leastBackoff, maxBackoff),
		within("cap", r.Cap, max(leastBackoff, min(r.Base, maxBackoff)), maxBackoff),
		within("spread", r.Spread, 0, maxBackoff)))
}

// Validate checks one link.
func (l LinkConfig) Validate() error {
	var errs []error
	errs = append(errs, validateURL(l.URL),
		edgeagent.InField("tls", l.TLS.Validate()), edgeagent.InField("proxy", l.Proxy.Validate()))
	if !l.TLS.isZero() && validateURL(l.URL) == nil && !secured(l.URL) {
		errs = append(errs, hinted("tls", fmt.Errorf("%s is not secured", l.URL), "write the url as mqtts://host:8883, wss://host/mqtt, coaps://host or coaps+tcp://host"))
	}
	errs = append(errs, l.validateMQTT(), l.validateCoAP())
	if l.KeepAlive != 0 {
		errs = append(errs, within("keep_alive", l.KeepAlive, leastKeepAlive, maxKeepAlive))
	}
	if l.Username == "" && !l.Password.IsZero() {
		errs = append(errs, edgeagent.Field("password", "a password needs a username beside it"))
	}
	return errors.Join(errs...)
}

// validateMQTT checks what only MQTT has.
func (l LinkConfig) validateMQTT() error {
	if u, err := url.Parse(l.URL); err == nil && strings.HasPrefix(u.Scheme, "coap") {
		if l.Protocol != "" || l.MessageExpiry != 0 {
			return hinted("protocol", errors.New("protocol and message_expiry are of MQTT"), "leave them away for CoAP")
		}
		return nil
	}
	var errs []error
	switch l.Protocol {
	case "", ProtocolAuto, ProtocolMQTT3, ProtocolMQTT5:
	default:
		errs = append(errs, edgeagent.Field("protocol", "unknown protocol %q, want auto, \"3.1.1\" or \"5\"", l.Protocol))
	}
	if l.MessageExpiry != 0 {
		errs = append(errs, within("message_expiry", l.MessageExpiry, leastExpiry, maxExpiry))
		if l.Protocol == ProtocolMQTT3 {
			errs = append(errs, hinted("message_expiry", errors.New("MQTT 3.1.1 has no message expiry"), "use protocol: auto or \"5\""))
		}
	}
	return errors.Join(errs...)
}

const urlHint = "write it like mqtt://host:1883"

func validateURL(s string) error {
	if s == "" {
		return hinted("url", errors.New("missing key url"), urlHint)
	}
	u, err := url.Parse(s)
	if err != nil {
		return hinted("url", errors.New("not a URL"), urlHint)
	}
	switch u.Scheme {
	case "mqtt", "tcp", "mqtts", "ssl", "tls", "ws", "wss":
	case "coap", "coaps", "coap+tcp", "coaps+tcp":
	default:
		return hinted("url", fmt.Errorf("unknown scheme %q, want mqtt, mqtts, ws, wss, coap, coaps, coap+tcp or coaps+tcp", u.Scheme), urlHint)
	}
	path := u.Scheme == "ws" || u.Scheme == "wss" || IsCoAP(s)
	port, err := strconv.ParseUint(or(u.Port(), "1883"), 10, 16)
	switch {
	case u.Hostname() == "":
		return hinted("url", errors.New("the host is missing"), urlHint)
	case err != nil || port == 0:
		return edgeagent.Field("url", "bad port %q, want 1 to 65535", u.Port())
	case u.User != nil:
		return hinted("url", errors.New("holds a login"), "use username and password beside url")
	case !path && (u.Path != "" && u.Path != "/") || u.RawQuery != "" && (!path || IsCoAP(s)) || u.Fragment != "":
		return hinted("url", errors.New("holds more than host and port"), urlHint)
	}
	return nil
}

// secured reports whether a valid URL asks for TLS.
func secured(s string) bool {
	u, err := url.Parse(s)
	return err == nil && slices.Contains([]string{"mqtts", "ssl", "tls", "wss", "coaps", "coaps+tcp"}, u.Scheme)
}

func within(path string, v, low, high time.Duration) error {
	if v < low || v > high {
		return edgeagent.Field(path, "%s is out of range, want %s to %s", v, low, high)
	}
	return nil
}

// later is the error about something that is designed and not built.
func later(path, what, hint string) error {
	return hinted(path, errors.New(what+" is not in this release"), hint)
}

func hinted(path string, err error, hint string) error {
	return &edgeagent.FieldError{Path: path, Err: edgeagent.WithHint(err, hint)}
}

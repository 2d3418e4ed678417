// Package mqttin takes readings from devices that publish to a broker in reach:
// Zigbee2MQTT, Tasmota, Shelly and whatever else says numbers, alone or in JSON.
//
// One sensor of the configuration is one connection, with a list of topic filters; the
// first filter that matches a topic decides what is read. The series are named after the
// sensor and what the wildcards of the filter stand for: with the sensor "zigbee" and the
// filter zigbee2mqtt/+ the topic zigbee2mqtt/kitchen gives zigbee/kitchen/temperature and
// so on.
//
// Whoever can publish decides about names and values, so everything has a bound: series
// (1,000 by default; those that come later are refused), size of a message (64 KiB),
// values in a message, messages that wait (1,024; the oldest goes and is counted). What
// cannot be read costs only itself, and health says so for a minute.
//
// A retained message is the last known value and not a fresh one: it is given with
// quality stale, unless the filter says skip or fresh. Times are those of arrival, unless
// the filter names where the message has its own.
//
// The session is clean, MQTT 3.1.1 over TCP, without TLS: what is published while the
// agent is away is not made up for, but for what is retained. The connection is made
// anew after 1 s, then longer and longer, up to a minute.
//
// A source is used by one goroutine; the library's goroutines end with Close.
package mqttin

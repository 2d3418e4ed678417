// Package broker is an MQTT broker in the process, for the demo, the simulator,
// tests, and an edgehub that has no other.
//
// It is mochi-mqtt behind a small API. Sessions,
// retained messages and queues live in memory and are gone when Run returns, and
// like most brokers it acknowledges a message before any subscriber has it. That
// is the point: the delivery contract has to hold against such a broker, too.
//
// Bounds: 65,535 messages of QoS 1 wait for one client, 16,384 writes are
// pending for one client, one packet is at most 1 MiB. What is over a bound is
// dropped by the broker and counted in [Stats].
//
// A client id that comes again waits until nothing is left of the connection that
// had it before: mochi alone may clear the new session away with the old one. A
// persistent session that comes back to hundreds of waiting messages now and then
// loses one of them inside mochi (5 of 60 runs with 500 messages); tests of that
// run against mosquitto. It speaks MQTT 3.1.1 and 5, but does not heed a client's
// Receive Maximum, with which mochi may stand still for ever, and never says that
// nobody is subscribed.
//
// [Options.Allow] divides the topics among users: it is asked about what they publish,
// subscribe to and leave as a will, and a client id then belongs to the user that came
// with it first, since a session, with its subscriptions, goes by that id; a user may have 64.
// [Broker.Dial] is a way in for the program that the broker lives in.
//
// All methods are safe for concurrent use. Every goroutine that Run starts has
// ended, or is about to end without touching anything, when Run returns.
package broker

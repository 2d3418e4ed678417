// Package mqtt is the MQTT 3.1.1 transport, both ends of it: [Transport] is the
// agent's sender, [Receiver] is what a hub listens with.
//
// A PUBACK says that the broker has taken a message, not that it will deliver
// it. The transport reports it as accepted and nothing more; what proves delivery
// is the receiver's own acknowledgement, which travels back on the ack topic.
//
// # One client per connection
//
// The client library is run without its own reconnect and without its store on
// disk. With them on it completes publish tokens without an error although no
// PUBACK ever came, and whoever trusts such a token deletes data that nobody
// has. So every session is a fresh client with a clean session, and when it ends
// everything without a result is unsent again. Nothing here waits for a token
// alone: the session's context ends every wait.
//
// # Three watchdogs
//
// A connection that is dead without saying so is found by the write timeout (5 s
// for every 8 KiB), by TCP_USER_TIMEOUT (1.5 times the keep-alive, Linux), and by the ping timeout.
// The fourth belongs to the engine: the age of the oldest message without a
// result.
//
// # What it runs over
//
// TCP, TLS (1.3 unless 1.2 is asked for), WebSocket, each directly or through an HTTP
// or SOCKS5 proxy. Certificates are held against the wall time, but never against one
// before the program was built: a machine that boots in 1970 still gets through. Their
// files are read for each session.
//
// # Topics
//
// The agent publishes to ea/v1/{tenant}/{device}/d/{lane} and listens to
// ea/v1/{tenant}/{device}/ack. QoS is 1 throughout, nothing is retained.
//
// # Limits
//
// This release speaks 3.1.1: no MQTT 5, no will. A link that takes less than 8 KiB in 5 s (13 kbit/s) cannot be told from a
// dead one. Two clients
// with the same client id take each other's connection over for ever; the default
// id, edgeagent-{tenant}-{device}, makes that visible rather than impossible.
// Packets over 1 MiB end the connection before they are read.
//
// Transport and Receiver are safe for concurrent use as their methods say. All
// goroutines end with Session and Run.
package mqtt

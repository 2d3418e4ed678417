// Package mqtt is the MQTT transport, 3.1.1 and 5, both ends of it: [Transport] is the
// agent's sender, [Receiver] is what a hub listens with.
//
// A PUBACK says that the broker has taken a message, not that it will deliver
// it. The transport reports it as accepted and nothing more; what proves delivery
// is the receiver's own acknowledgement, which travels back on the ack topic.
//
// # Two versions
//
// A link speaks MQTT 5 where the server does, for its reason codes: on 3.1.1 a message
// that the server forbids, or that is too large for it, is acknowledged like any other.
// A server that says it does not know the version, or hangs up on it, is spoken to in
// 3.1.1 at once and for an hour; its configuration may fix either.
//
// # One client per connection
//
// The library for 3.1.1 is run without its own reconnect and without its store on
// disk. With them on it completes publish tokens without an error although no
// PUBACK ever came, and whoever trusts such a token deletes data that nobody
// has. So every session is a fresh client with a clean session, and when it ends
// everything without a result is unsent again. Nothing here waits for a token
// alone: the session's context ends every wait.
//
// Of the library for 5 only the packets are used; its client keeps neither order nor
// deadlines. What comes is read whole, within bounds, before anything looks at it, and a
// panic over a malformed packet ends the connection and nothing else.
//
// # Three watchdogs
//
// A connection that is dead without saying so is found by the write timeout (5 s
// for every 8 KiB), by TCP_USER_TIMEOUT (1.5 times the keep-alive, Linux), and by a
// ping: a server that says nothing for the keep-alive is asked, and has a third of it,
// 4.5 s at least, to answer. The fourth belongs to the engine: the age of the oldest
// message without a result.
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
// ea/v1/{tenant}/{device}/ack. QoS is 1 throughout, nothing is retained. On MQTT 5 text
// bears its content type, and who its records are as user properties epoch, run,
// stream, first and count; a block says so itself.
//
// # Limits
//
// No will, no redirects. A link that takes less than 8 KiB in 5 s (13 kbit/s) cannot be told from a
// dead one. A server that hangs up on a login for another reason, and takes the next, is
// spoken to in 3.1.1 for as long as that session lasts. Two clients
// with the same client id take each other's connection over for ever; the default
// id, edgeagent-{tenant}-{device}, makes that visible rather than impossible.
// Packets over 1 MiB end the connection before they are read.
//
// Transport and Receiver are safe for concurrent use as their methods say. All
// goroutines end with Session and Run.
package mqtt

// Package coap is the CoAP transport, both ends of it: [Transport] is the agent's
// sender, [Receiver] is what a hub listens with. Links are UDP, DTLS 1.2 (a pre-shared
// key or certificates, connection ids), TCP and TLS.
//
// # What an answer means
//
// The receiver answers a message with 2.04 when the hub has committed it, and not
// before; the end-to-end acknowledgement travels in that answer, or as a notification
// of ea/v1/{tenant}/{device}/ack, which the sender observes. A server that is not ours
// says with 2.04 whatever it means by it.
//
// # Layers
//
// Each is a pure state machine that is given datagrams and times, so that whole
// transfers run in virtual time in tests:
//
//	message    the codec (RFC 7252 section 3, RFC 8323 section 3)
//	reliable   repetition, duplicates, NSTART (RFC 7252 section 4)
//	caller     requests in blocks, observation (RFC 7959, RFC 7641), for one server
//	assembler  bodies out of blocks, for one client
//
// They are our own because those of the library that most Go programs use lose data:
// its upload hangs for ever when one acknowledgement is lost, and its server hands a
// handler the last block of an upload whose token changes with each block, as
// RFC 7959 allows. bench_test.go and library_test.go hold both against ours.
//
// # Loss
//
// A confirmable message waits for its acknowledgement 2 to 3 s at first, then as long
// as the round trips that were measured ask for, at least 0.5 s; twice as long with
// each repetition; at least four repetitions and 45 s. One message is on its way at a
// time (NSTART 1; up to 4 by configuration, and 1 again while messages have to be
// repeated), blocks of 1,024 bytes or what the server asks for, each an exchange
// of its own: 64 KiB are 64 round trips. Between two blocks an alarm goes first.
//
// # Bounds
//
// Sender: 64 messages without a result, of which the engine uses 4 over datagrams, of
// 8 KiB; 199 messages a second over UDP after the first 16,384, because ids must not
// be used again within 247 s. Receiver: 10,000 clients a listener; 64 datagrams and 4
// unfinished bodies of 512 KiB a client, 64 MiB of such bodies in all; 1,024 messages
// or 64 MiB that wait for the hub. What is over a bound is answered with 4.13, 5.03 and
// Max-Age, or dropped if it is a datagram or a handshake (256 at once), and counted.
// A client over UDP is forgotten after 5 min of silence, one over DTLS after an hour.
//
// # Limits
//
// No proxies, no OSCORE, no Q-Block, no DTLS 1.3. Over plain UDP a sender's address is
// all that is known of it. A peer that gets a new port from its NAT is known again by
// its connection id alone: without one the next message starts a new session.
//
// Transport and Receiver are safe for concurrent use. All goroutines end with Session
// and Run.
package coap

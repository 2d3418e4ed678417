// Package uplink moves records from the buffer to destinations and knows what has
// arrived.
//
// The engine is a pure state machine: events in (session up, result of a message,
// acknowledgement, timer), actions out (connect, send, confirm). A thin shell per
// destination carries the actions out. It declares the two things it needs: a
// [Log] to read from and a [Transport] to send through.
//
// A record is unsent, in flight, accepted or confirmed. Only confirmed records
// leave the buffer's hands, and what confirms is the destination's ack level.
// When a session is lost everything in flight is unsent again, so delivery is at
// least once; identity (epoch, stream, sequence) makes it exactly once for
// whoever looks at it. Live readings never wait for the backlog.
package uplink

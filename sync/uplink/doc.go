// Package uplink moves records from the buffer to destinations and knows what has
// arrived.
//
// The engine is a pure state machine: events in (session up, result of a message,
// acknowledgement, time), one action out at a time (connect, read and send, confirm).
// A thin shell per destination carries the actions out. The package declares the two
// things it needs: a [Log] to read from and a [Transport] to send through.
//
// # What is promised
//
// A record is unsent, in flight, accepted or confirmed. Only confirmed records leave
// the buffer's hands, and what confirms is the destination's ack level: the
// transport's own acknowledgement, or the receiver's, end to end. When a session is
// lost everything in flight is unsent again, so delivery is at least once; identity
// (epoch, stream, sequence) makes it exactly once for whoever looks at it. What was
// accepted is sent again only when the receiver is alive and has not confirmed it
// within confirm_timeout; one message may be sent as a probe when it is silent.
//
// An acknowledgement is held against what was sent. Records of this run that were
// never sent are not confirmed whoever holds their numbers, and once a receiver tells
// of a conflict, of another run at our numbers, or of numbers that were never given,
// nothing it says of that epoch is believed until the process ends: the buffer was put
// back to an older state. Records of an earlier run are believed to have been sent.
//
// No refusal and no error ever gives a record up. A lane that cannot go on pauses,
// from 10 s up to 5 min, and the others go on.
//
// # What the receiver is told besides
//
// With blocks go marks: how far each stream goes, and which records can never come and
// why. They are sent at the start of a session, when they change (at most every 10 s),
// and before an orderly end, so that the receiver can prove that it has everything.
//
// # What goes first
//
// Alarms, then events, then live readings, then backlog; backlog keeps a tenth of
// the bytes. The window follows the link's measured rate so that what is on the wire
// takes about a quarter of a second beside the round trip: live readings and alarms
// do not wait behind backlog that was sent before them. Live readings linger to make
// up a message, except for the first ones of a session; those that could not be sent
// within live_window become backlog.
//
// # Several links
//
// A destination's links stand in for one another, see [Failover]; they share one place
// in the buffer.
//
// # Limits
//
//   - in flight: 64 messages and 1 MiB (a new session begins with 4 messages, fewer
//     after sessions in which nothing was accepted); beyond, nothing is read
//   - accepted and unconfirmed: 1,000 messages or 4 MiB; beyond, only alarms, up to
//     twice that
//   - results and acks that the engine has not looked at: 256 and 16; beyond, a
//     result is dropped (its message is sent again after ack_timeout), an ack gives
//     way to the newer one
//   - series definitions beside the readings that need them: 8 KiB; more go ahead of
//     them alone
//
// When sessions end over messages that are larger than all that they took, messages are
// halved, down to 1 KiB of records, until a session lasts.
//
// All of them can be read from [Uplink.Stats].
//
// # Not in this release
//
// No budgets and quotas; no replay requests; a proven rewind is reported and stops confirming, but does
// not begin a new epoch; no dead letters; text
// formats do not hold readings back that were taken without a trusted clock, they say
// so in their quality.
//
// # Concurrency
//
// [Uplink.Run] owns the engine: every goroutine is started in it and gone when it
// returns. All methods of [Uplink] are safe for concurrent use.
package uplink

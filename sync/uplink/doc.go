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
// # When the buffer was put back
//
// An acknowledgement is held against what was sent: what this process has not sent is
// not confirmed whoever holds the numbers, and after a start what was accepted and not
// confirmed is sent once more. The first records of a process wait until the receiver
// has answered the first marks, for at most two seconds, so that it says what it held
// before. Once a receiver tells of a conflict, of another run at our numbers, or of
// numbers that were never given, the buffer was put back to an older state, and nothing
// that the receiver says of that epoch is believed any more. Is it the newest epoch,
// the log takes note of it, the destination falls silent, and [Options.OnRewind] is
// told, for the agent to start again with a new epoch. Of an older epoch, what is not
// confirmed gets numbers of the newest one.
//
// # What is refused
//
// An error, a refusal of the server or of the configuration gives no record up. A lane
// that cannot go on pauses, from 10 s up to 5 min, and the others go on. What is
// refused for what it is, or does not fit the link, is sent in halves until the record
// that is the reason stands alone. That one is tried a second time after a pause; then
// the log puts it aside as a dead letter.
//
// # What the receiver is told besides
//
// With blocks go marks: how far each stream goes, and which records can never come and
// why. They are sent at the start of a session, when they change (at most every 10 s),
// and before an orderly end, so that the receiver can prove that it has everything.
//
// # What is asked for again
//
// A receiver may ask for ranges that it has lost, once a second, 256 at a time. They
// are read again, confirmed or not, and sent behind the backlog; what arrives
// meanwhile, or is on its way, is left out. What is gone stands in the next marks.
//
// # What goes first
//
// Alarms, then events, then live readings, then backlog; backlog keeps a tenth of
// the bytes, by deficit round robin. The window follows the link's measured rate so that what is on the wire
// takes about a quarter of a second beside the round trip: live readings and alarms
// do not wait behind backlog that was sent before them. Live readings linger to make
// up a message, except for the first ones of a session; those that could not be sent
// within live_window become backlog.
//
// The order of backlog is oldest first, or newest first in parts: see [NewestFirst].
//
// # What may be spent
//
// A token bucket bounds the bytes a second, a quota those of a month, a schedule the
// times of day. Backlog can have a smaller rate of its own, see [Config]; replays go
// with it. Near the end of a quota backlog waits, then live readings, then events,
// then alarms; when only events and alarms are left, or the schedule is closed, the
// link is there on demand: it is opened for what may go and closed behind it. What was
// used of the month is kept by [Options.Memory], ahead of its use. A server may ask for
// patience, see [Hint].
//
// # What waits for the clock
//
// Readings in text that were taken without a trusted clock wait for as long as
// [Options.Hold] says, and are then read again, with the times that are known by then.
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
//   - readings of text that are decoded and wait to be cut into messages: 4,096 a lane;
//     memory of sent messages that is kept for the next ones while a backlog drains: as
//     much as is in flight
//   - results and acks that the engine has not looked at: 256 and 16; beyond, a
//     result is dropped (its message is sent again after ack_timeout), an ack gives
//     way to the newer one
//   - ranges that are sent apart because of a refusal: 64; beyond, the lane pauses
//   - series definitions beside the readings that need them: 8 KiB; more go ahead of
//     them alone
//
// When sessions end over messages that are larger than all that they took, messages are
// halved, down to 1 KiB of records, until a session lasts.
//
// All of them can be read from [Uplink.Stats].
//
// # Concurrency
//
// [Uplink.Run] owns the engine: every goroutine is started in it and gone when it
// returns. All methods of [Uplink] are safe for concurrent use.
package uplink

// Package nats writes cuts to a JetStream stream: JSON lines, one message a cut, or a few
// where a cut is large.
//
// # Guarantees
//
// Exactly once while the stream's duplicate window covers the outage. A message bears the
// cut's id as Nats-Msg-Id; the same cut makes the same messages, and the stream leaves out
// one that it has under the same id within its window. [Open] refuses a stream whose window
// is under an hour. A hub that dies between the write and the note of it and comes back
// later than the window writes the cut again; readers tell records apart by epoch, stream
// and seq in each line.
//
// Unsynced readings keep their raw time with quality "unsynced"; their correction is a
// message of its own.
//
// # Subjects
//
//	PREFIX.{tenant}.{device}.{stream}      records
//	PREFIX.{tenant}.{device}.correction    {"tenant", "device", "epoch", "run", "add_ns", "err_ns"}
//
// What a subject cannot hold in a name (a dot, a blank, "*", ">") is written as "_" there;
// the header edgehub-device has the name as it is.
//
// # Limits
//
// A message is at most 512 KiB. Commit and Correct are for one goroutine at a time.
package nats

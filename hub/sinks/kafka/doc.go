// Package kafka writes records to a topic of Kafka or Redpanda: one message a record,
// JSON, with the device as key, so that a device's records stay in order in one partition.
//
// # Guarantees
//
// At least once. A commit returns when all replicas in sync have every record of the cut.
// The producer is idempotent, so its own retries write nothing twice; a hub that dies
// between the write and the note of it writes the cut again. Readers that must not count a
// record twice tell it by its headers:
//
//	tenant, device, epoch, run, stream, seq   the record's identity
//	cut                                       the cut that it came in
//
// Unsynced readings keep their raw time with quality "unsynced"; when their correction
// becomes known it is a message of its own, with the header type = "correction" and
// {"tenant", "device", "epoch", "run", "add_ns", "err_ns"}.
//
// # Limits
//
// A cut is at most some thousand records; all of them are in flight at once. Commit and
// Correct are for one goroutine at a time.
package kafka

// Package hub is the cloud end as a library: it receives what agents send, stores
// each record once, and tells the agents what it holds.
//
// # What happens to a message
//
// Tenant and device come from the topic, never from the payload. Each block goes
// through the same steps: checksum, identity, what is held already is left out,
// decode, commit to the sink, and only then the transport's acknowledgement and,
// at its own pace, the end-to-end one. What has arrived while one commit ran goes into
// the next, in one transaction, because a small message costs little beside a commit;
// when the hub is idle nothing waits. If one of them cannot be stored the others are
// stored all the same. A record is known by (tenant, device,
// epoch, stream, sequence), whatever block it came in, so blocks may overlap,
// repeat and arrive in any order.
//
// An end-to-end ack says what is held and nothing else. It never names a record
// that the sink did not take.
//
// # Completeness
//
// From time to time an agent says in marks how far it has got, and what it can no
// longer deliver and why. A stream is complete when everything below its end is held
// or named ([StreamStats.Complete]); [Hub.Gaps] lists the holes with their reasons.
// Times that were taken without a clock are corrected as soon as the agent has said
// by how much, also in what was stored before if the store keeps the records; a sink
// that is a [Corrector] hears of it.
//
// # Replay
//
// What is missing for 30 seconds though the agent takes it for delivered is asked for,
// at most once a second and 256 ranges at a time from each device, more and more
// rarely while nothing comes of it, and not at all from one that is silent. An agent
// that does not have it any more says so in its marks. By default only numbers are
// asked for that were given since the hub began: see [ReplayPolicy].
//
// # What cannot be stored
//
// Nothing parks and nothing stops the rest: what cannot be stored is
// acknowledged to the transport, counted, and kept raw in quarantine with its
// [Cause]; so is what a sink refuses for good ([ErrRefused]). Nothing in quarantine counts as held. Readings whose series are not
// known yet are taken up as soon as the names come. A sink that fails is tried
// again for ever, in order, without an acknowledgement: the input queues behind
// it.
//
// # What outlives the hub
//
// What is held and under which run it came, names, corrections, what agents say of
// themselves and the quarantine are kept in a [Store]. Where the records go into the same
// store, rows and ranges are one transaction: each record is stored exactly once, and
// several hubs may share the store, each refused whatever it planned on a state that
// another has changed ([ErrStale]). Where they go to a [Sink], the hub notes the cut in
// the store, hands it over, and notes that it is held; after a crash in between the very
// same cut is handed over again, before anything else of its stream, and what comes of
// that is the sink's guarantee. A hub without a store forgets everything when it ends.
//
// # Limits
//
// What a remote end can make the hub remember is bounded: 10,000 devices, 64
// epochs a device (the least recently seen goes), 4,096 ranges and as many gaps a stream and a
// million in all, 10,000 series an epoch and 262,144 in all, 64 MiB of
// quarantine a tenant and 256 MiB in all. Beyond a bound blocks are refused:
// counted, acknowledged to the transport and not held.
//
// A commit takes 512 messages, 4 MiB and 20,480 records at most. As many messages may wait
// for the next one, for each input; then the input waits, and has a bounded queue of its own.
//
// A Hub is safe for concurrent use. Several inputs may Run at once; commits are
// made one at a time.
package hub

// Package buffer is the durable log between the sensors and the cloud: whatever
// [Buffer.Append] has returned for is delivered, or stands in the ledger with the
// reason why not.
//
// # Identity
//
// A record is (epoch, stream, sequence) for ever, with the run as a check. Each of
// the four streams counts 1, 2, 3 … within an epoch; a block holds a contiguous
// range, and how it is cut, merged or cut again changes nothing. An epoch is one
// life of the directory: a new one begins when the buffer is made, its state is
// lost, or the directory turns up on another machine, as a copy, or with its files
// put back from one. The old ones are only read. What this cannot see is an image
// of the whole file system that is put back, or a copy written over the files as
// they stand: numbers are then given twice, under another run.
//
// # What survives
//
//	SIGTERM, Close        everything
//	kill -9, panic, OOM   what Append returned for; numbers go on without a hole
//	power cut             alarms, and what was appended longer than sync_every ago;
//	                      2^32 numbers are left out
//	damaged file          all but the damaged blocks; those are in the ledger
//	full disk             what is stored; Append fails with [ErrFull] once memory
//	                      and head log are full
//
// Append numbers its records, writes one frame into the head log, keeps them in
// memory, and returns: no sync, no database. [Buffer.Run] syncs the head log when
// the oldest record that is not confirmed durably by every destination reaches
// sync_every; with destinations that confirm sooner there is next to no sync.
// Nobody reads a record before its frame is written, or a series before it would
// survive a power cut.
//
// A checkpoint moves what fills blocks from memory into segments, eight blocks a
// commit, and then begins a new head file with the rest. It is due when eight full
// blocks wait, at three quarters of memory or head file, and at Close. Run makes
// checkpoints, so that Append waits for one only when memory (2 MiB) or head file
// are full. Without Run whoever appends does all that on the way.
//
// The first write or sync of the head log that fails moves it to another file. After
// the second, or when segments cannot be written to and everything is full, the
// buffer goes on in memory, in an epoch of its own: 2 MiB, the oldest give way
// without a word in the ledger, and all of it is lost with the process. Health says
// buffer-memory. What was in memory before keeps its names and is delivered from
// there; what is in segments is out of reach. Every 10 minutes the disk is tried
// again; then another epoch begins on it, and all that memory holds moves there. A
// disk that fails or may only be read when the buffer is opened is treated the same.
//
// Numbers are reserved 2^32 at a time, durably: after a power cut the rest of the
// reservation is left out, because a receiver may have seen numbers that this disk
// has lost. That hole is in the ledger as power_cut. Its at_most is as many records
// as can have been accepted and not durable: what fits into the memory, without
// what was found; none for alarms.
//
// # Files
//
//	LOCK                              held by flock; names the process
//	head-0  head-1                    the head log: 1/32 of the budget each, 256 KiB to 4 MiB
//	state.db                          runs, reservations, cursors, ledger, series
//	<stream>/<epoch>-<first>.seg      blocks, and the series that they use
//	quarantine/                       copies of damaged files, if there is room
//	dead/<destination>/*.dead         copies of what a destination refuses for ever
//
// A head file defines the series that its readings use, so that it can be read
// alone like a segment. Acks are frames of the head log; the next checkpoint stores
// the cursors in state.db.
//
// A segment is appended to until it is full, at most 8 MiB, and unlinked as a
// whole. It is never written again after a write to it failed; the next one begins
// at the number where that happened, with the same records, and what the older one
// holds from there on is not read. All files are read and checked, without mapping
// them, before they are opened.
//
// # Encryption
//
// With a key (Config.Encryption) all that tells a reading, an event or the name of a
// series is sealed on its way to the disk, each by itself: blocks in segments, frames
// of the head log, definitions of series in state.db, dead letters (package sealed).
// In the open stay numbers, times of segments, sizes, gaps, names of destinations
// and which machine and directory it is. What was written before there was a key
// stays as it is until it is evicted.
//
// state.db has the id of the key. An open without the key, or with another, fails with
// [ErrKey] before it changes or puts aside anything; where state.db is lost, what is
// sealed tells. With the right key a box that does not open is damage like any
// other. An encrypted buffer stays encrypted: there is no way back but another
// directory.
//
// # Budget
//
// Before every commit the allocated blocks of all files are added up: segments,
// state.db, head files, copies of damaged files and dead letters. If the commit might
// exceed max_bytes, what every destination has confirmed goes first, oldest first. Then
// the policy decides: by default the oldest readings are folded into rollups (package
// rollup), a tenth of their size; when there are none left the oldest rollups go, then
// events and alarms. Alarms and events that take more than a tenth of the budget each
// give way to themselves before that. Under drop-newest and block nothing goes that
// somebody waits for, and readings leave alarms and events a tenth of the budget each.
//
// If a commit might leave the file system less than 64 MiB (or 5 %), only what is
// confirmed goes, and then appends fail: what somebody else fills a disk with must not
// push out what is buffered. What nobody confirmed is in the ledger, durably, before
// its file goes; of readings that were rolled up the gap names the rollups. Repairing a
// damaged segment needs room for a copy of it, beyond the budget, for a moment.
//
// Readings and their rollups are never both there for a reader: the intent is noted in
// state.db, the rollups are written, the ledger takes the readings, their file goes,
// and then the rollups can be read. An open that finds an intent carries it out if the
// rollups are there, and forgets it if not. Only readings of the newest epoch are
// rolled up: one that has ended gives no more numbers, and its readings are dropped.
//
// # Concurrency
//
// All methods of Buffer and Cursor are safe for concurrent use; a Reader belongs
// to one goroutine. The package starts no goroutines: Run is called by its owner.
// Records in memory take at most 2 MiB, of which a sixteenth is for alarms alone;
// compressed blocks on their way into a segment 256 KiB; and 4 segments are open
// at a time, of those that somebody used in the last 20 s.
//
// Lock order: Buffer.disk (everything that changes segments and state.db), then a
// segment's handle lock, then Buffer.in (numbering, and frames of records), then
// the head log's own locks, then Buffer.mu (memory; never held while the disk works
// or the head log is asked).
package buffer

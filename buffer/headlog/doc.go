// Package headlog is the first place where a record is safe: a log of two files
// of fixed size, written in turn, that takes a frame with one write and no sync.
// What is in it is later sealed in segments, and the log forgets it.
//
// # Why
//
// A database commit costs two syncs of the disk and about five pages, however
// small it is. A log whose files neither grow nor move needs one fdatasync for
// all that came since the last, and one page: the file system's journal has
// nothing to do, because the zeros were really written once.
//
// # Guarantees
//
//	Append returned        survives kill -9, panic, OOM
//	Sync returned          survives a power cut, too
//	not synced yet         a power cut leaves what came before some moment, and
//	                       nothing from after it
//	damaged pages          cost the frames that touch them, and of short ones those
//	                       that refer to a full one there: none in another page;
//	                       counted and reported. In what was synced last it may
//	                       look like a power cut
//	a sync that fails      no file is trusted after one: see below
//	limits                 stand in both files; the highest wins
//
// Frames come back bit by bit and in order, and nothing comes back that was never
// appended: a checksum covers each frame together with its offset, and each
// generation of a file has a number that no other shares, lost ones included. It
// is not a signature: whoever can write the files can forge frames.
//
// # Files
//
//	head-0  head-1         Options.Size each, 4 MiB by default
//	head-2  head-3         for a while, after a failure or an interrupted rotation
//
// A file holds one generation: a header frame with format version, epoch and
// limits; the tails that moved here; a frame that says that they are complete;
// then what was appended. Frames follow one another closely, and the first behind
// a sync begins a new page of 4 KiB: what is durable is never written again, so no
// cut can tear it. The rest of the file is whatever was there before.
//
// A full frame:
//
//	 0 u32 crc32c of bytes 4 …, seeded with the offset in the file
//	 4 u32 payload length       8 u64 generation         16 u64 epoch
//	24 u64 first sequence      32 i64 time base          40 u32 count
//	44 u32 run                 48 u32 index: frames of this generation before it
//	52 u16 pages of the file that were durable when it was written
//	54 u16 magic 0x4c48        56 u8 kind                57 u8 stream
//	58 u8 flags                59 u8 resolution          60 payload
//
// A short frame refers to a full one that begins before it in the same page, its
// anchor, and has kind, stream, run, epoch, resolution and flags of it. It takes
// 10 to 13 bytes and its payload, as a rule:
//
//	0 u32 crc32c of bytes 4 …, seeded with offset ^ checksum of the anchor
//	4 u16 lower bits of the generation
//	6 u16 bits 0…11: where the anchor begins in the page; 12: the first sequence is
//	      the anchor's + its count × the index from it; 13: the count is the anchor's;
//	      14: so is the time base; 15: the flag Starts, which is not the anchor's
//	8 uvarint payload length, at most 4,096
//	  uvarint index - the anchor's
//	  uvarint first sequence - the anchor's, unless bit 12
//	  uvarint count, unless bit 13
//	  varint  (time base - the anchor's) / 10^resolution, unless bit 14
//	  payload
//
// All little endian. The log's own frames are full, and so is the first one of each
// page, and the first behind a sync that went well, which says how much is durable.
// Short frames say nothing of the frames between them and their anchor, so one that
// is damaged is lost alone; the anchor's checksum in the seed keeps them from being
// read with another. A generation is a counter in the upper and random bits in the
// lower half. The payload is the caller's; [AppendRows] is a codec for readings
// (10 to 11 bytes each), other kinds bring their own.
//
// # Recovery
//
// [Recover] writes nothing. It takes the greatest generation that begins a page of
// a file, finds all its frames, and learns from them how much was durable. Up to
// there it looks for the next frame behind whatever is damaged, for short ones in
// the pages of the anchors that it knows; from there on it stops at the first frame that is missing. Files that a newer one has released,
// and generations whose tails are not complete, are left out: what they hold is
// known from elsewhere. A record may come twice, from the file it was appended to
// and from the one it moved to; so may one that Append refused because the disk
// failed, and whose number was given again: the later one counts.
//
// # How a caller uses it
//
//	recover   Recover; read Frames; Start with those that are not sealed
//	append    under one lock: number the records, Append
//	sync      every so often, and before promising anything: Sync
//	full      when Stats.Used nears Stats.Size: seal what fills a block, sync the
//	          directories of that, then under the append lock Rotate with the
//	          rest, then Release
//	suspect   under the append lock: Rotate with all that is not sealed; Release
//	broken    go on without the log; Recover finds what was synced
//
// # Failing disks
//
// After a failed fdatasync the kernel calls pages clean that it never wrote, and
// the next one succeeds. So a file whose write or sync failed is left at once: the
// log answers ErrSuspect until the caller has rotated, and Release replaces the
// file. That happens once. A second failure breaks the log for good. A bad file is
// not removed before what it held is durable elsewhere, so what was synced is never
// lost by this.
//
// The disk can be full only when files are made: in Start, and when a bad one is
// replaced.
//
// # Concurrency
//
// All methods of [Log] are safe for concurrent use; the package starts no
// goroutines. Append and Rotate write into the page cache under one lock that is
// never held over a sync: a card that takes 50 ms a sync does not delay them. (Two
// exceptions: the kernel may make writers wait when too much is dirty, and Rotate
// makes a file itself if the log is suspect and has no other.) Sync, Raise, Release
// and Close take turns, and callers of Sync that wait for their turn share one
// fdatasync. A [Recovery] belongs to one goroutine. Other processes must be kept
// away by the caller.
//
// # Limits
//
// A payload has at most 256 KiB or a quarter of a file, whichever is less; 16 KiB
// of each file are kept for the log's own frames. Tails must fit into one file.
// Recovery takes half a MiB of memory, and 50 bytes for each place where frames
// are missing. Nothing is encrypted: a caller that needs it seals its payloads.
// A log has 2^32 generations.
package headlog

// Package segment keeps the buffer's files: append-only segments of blocks, and
// the small store of everything else ([Store], the file state.db). It is the only
// importer of bbolt and knows nothing of what a block holds.
//
// # Why segments
//
// A bbolt file never shrinks and its free list grows with its holes. A chain of
// small files that are only appended to and then unlinked has neither problem,
// and damage costs at most one file. The price is that every commit writes about
// five pages, however small it is.
//
// # Guarantees
//
// [Segment.Append] and [Store.Commit] return after two fdatasyncs: what they
// accepted survives a power cut, all of it or nothing. New files and unlinked
// ones are made durable by syncing their directory.
//
// bbolt maps its files into memory and trusts them: a damaged file makes it
// panic, loop, or die of SIGBUS. So [Verify] walks a file with plain reads first
// and turns every kind of damage into [ErrDamaged], and [Scan] finds the blocks
// that are still whole in whatever is left. Nothing here opens a file with bbolt
// that its caller has not verified since the process began. What happens to the
// mapping afterwards (a card that fails while we run) becomes an error, too.
//
// After a failed commit nobody knows what is on the disk: the page cache and the
// medium may differ, and a second fsync would lie. A [Segment] refuses further
// appends then, and a [Store] writes itself anew into another file.
//
// # Concurrency
//
// A Segment has one writer and any number of readers at a time. A Store belongs
// to one goroutine at a time. Values that callbacks get are valid during the call
// only: they lie in the mapping.
package segment

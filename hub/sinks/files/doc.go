// Package files writes what a hub receives into files that need no program of ours to be
// read, under a folder for each tenant and device.
//
// # The two formats
//
// [Blocks]: a file per cut, "<epoch>-<stream>-<first>.eb" with the number of its first record, which holds
// blocks back to back: the names of the series first, then the records. docs/block-format.md
// specifies it; edgehub decode turns it into lines.
//
// [JSONL]: a file per day, "2026-03-01.jsonl", with one record a line, whose day (UTC) is that
// of the record's own time. The keys are those of the agent's format json; epoch, run,
// stream and seq say which record it is.
//
// Times stay as they came. Where they were taken without a clock, the line says quality
// "unsynced", and what to add follows in "clock.jsonl", or in a marks block of its own.
//
// # Guarantees
//
// Each record is there exactly once, also through kill -9 and power cuts, as long as the
// hub's store is kept: a cut that may or may not have been written comes again with the
// same records. A file of blocks is written aside, synced and renamed, so writing it again
// changes nothing. Lines are appended and synced; before that a note says which cut goes
// where, so that one that comes again adds only the lines that are not there, and a line that
// was cut short by a crash is taken away.
//
// # Concurrency and limits
//
// One hub writes a folder at a time; a [Sink] is used by one goroutine at a time. Readers may
// read at any time, and must be ready for a last line without its end. Nothing is ever
// deleted. Names of tenants and devices are escaped where a file system would stumble over them;
// two that differ in case only share a folder where the file system sees no difference.
package files

// Package sqlite keeps a hub's state and its records in one SQLite file: the store of an
// edgehub that runs by itself. It needs nothing but the file.
//
// # Guarantees
//
// Rows and ranges are committed in one transaction and synced to the disk before
// anything is acknowledged, so each record is in the file exactly once, through kill -9
// and power cuts. Readings that were stored with unsynced times get the right ones when
// their correction comes. A file that is not edgehub's, or that a later version wrote, is
// refused.
//
// Values are kept to the bit but for two: SQLite has no NaN, so every NaN is kept as
// NULL and comes back as one, and -0 comes back as 0.
//
// # The tables
//
// readings, rollups and events hold the records, by (epoch_id, series, time, seq) the
// first two, so that one series is read in one go; the views measurements and alarms show
// them with names, for people and their tools. An alarm that an agent had to send under a
// new number is there once in alarms. Times are Unix nanoseconds.
//
// # Concurrency and limits
//
// A [Store] is safe for concurrent use; commits are made one at a time, and readers do not
// wait for them. Only one process may write at a time; others may read, the sqlite3
// command for example. The write-ahead log beside the file (-wal, -shm) belongs to it. Nothing is ever
// deleted.
package sqlite

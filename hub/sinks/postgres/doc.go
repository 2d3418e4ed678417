// Package postgres keeps a hub's state and its records in a schema of a PostgreSQL
// database. It is the store for more than one worker.
//
// # Guarantees
//
// Rows and ranges are committed in one transaction before anything is acknowledged, so
// each record is in the database exactly once, also when the hub or the server is killed, and
// when the answer to a commit is lost. Several hubs may share a schema: a commit locks the rows of the streams that it
// changes, and one that was planned on a state that another worker has changed since is
// refused whole. synchronous_commit is switched on where it is off; with fsync off the
// server promises nothing, and neither does this package. Values are kept to the bit.
// Zero bytes in texts, which PostgreSQL cannot hold, become U+FFFD.
//
// # The tables
//
// readings, rollups and events hold the records, by (epoch_id, series, time); the views
// measurements and alarms show them with names, for people and their tools. An alarm that
// an agent had to send under a new number is there once in alarms. Times are Unix
// nanoseconds, in measurements as timestamptz, too. Where TimescaleDB is installed when the
// tables are made, readings becomes a hypertable; these statements are tested as text
// only.
//
// # Concurrency and limits
//
// A [Store] is safe for concurrent use; commits are made one at a time, on one of a few
// connections. Statements are prepared, which a pooler that shares connections between
// transactions must allow for. Nothing is ever deleted.
package postgres

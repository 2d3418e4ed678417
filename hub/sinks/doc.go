// Package sinks is empty in this release: each sink of edgehub (SQLite,
// PostgreSQL, line protocol, Kafka, NATS, files) gets a folder here, and until
// then the hub stores into memory only.
package sinks

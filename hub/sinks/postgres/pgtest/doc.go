// Package pgtest starts a PostgreSQL of its own for a test: a fresh data directory, a Unix
// socket, no port. It uses the server that Debian's postgresql installs and skips the test
// where there is none. As root it runs the server as user postgres or nobody, since
// PostgreSQL refuses to run as root.
package pgtest

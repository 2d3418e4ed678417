// Package sinks holds no code: each sink of edgehub has a folder here, and
// cmd/edgehub is the only place that lists them. sinktest is the suite that proves what
// each promises.
package sinks

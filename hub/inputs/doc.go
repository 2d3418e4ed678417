// Package inputs is empty in this release: inputs of edgehub that bring their own
// dependency (NATS) get a folder here, and until then the hub listens with
// sync/mqtt only.
package inputs

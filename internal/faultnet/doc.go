// Package faultnet breaks networks on purpose, for the demo, the simulator and
// tests.
//
// So far it holds [Switch], a dialer whose connections can all be cut at once
// and refused until it is restored. Latency, loss, rate limits, half-open links
// and the seeded script that drives them come in a later release.
//
// Everything is safe for concurrent use and starts no goroutine of its own.
package faultnet

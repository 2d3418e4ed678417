// Package faultnet breaks networks on purpose, for the demo, the simulator and
// tests.
//
//	Switch    a dialer whose connections can all be cut at once
//	Link      a dialer, or a proxy, for streams through a bad network
//	Packets   a datagram link in memory
//	Relay     a UDP proxy through a bad network
//
// What happens is said per direction by [Faults]: latency, jitter, rate, loss by
// chance or by number, duplicates, reordering, flipped bits, a stall, a black hole.
// A [Link] can also drop, double and delay the PUBACKs of an MQTT server, and plays
// scripts.
//
// Chance is seeded: the same packets at the same times meet the same fate. Link and
// Packets work in a testing/synctest bubble, over [net.Pipe] and in virtual time.
//
// Everything is safe for concurrent use. Link and Relay work for as long as their
// Run does; the others start no goroutines.
//
// Limits: 64 KiB (Faults.Queue) wait in each direction of a stream or for the rate
// of a datagram link, then writers wait and datagrams are dropped; 4,096 datagrams
// wait for a reader; a Relay serves 4,096 clients.
package faultnet

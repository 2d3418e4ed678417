// Package sinktest holds the conformance suite of edgehub's sinks and stores. It proves
// what a sink promises, [Guarantee], and nothing stronger: a hub receives an agent's blocks,
// cut anew, repeated and out of order, it dies before and after every single call of the
// sink and the store, another takes over what they have kept, and in the end the records
// in the sink are counted, each by its identity.
//
// [Run] is the whole suite. [Checks] are its parts as plain functions, so that the suite
// itself can be held against sinks that lie: it must find them.
package sinktest

// Package speedtest measures how fast a hub gets readings into a store, and how fast the
// bare database takes equal rows: same batches, same durability, by turns within one run,
// so that what the machine does meanwhile hits both. Command edgehub bench and the
// benchmarks of the sinks are shells around [Run].
package speedtest

// Package gpio will hold inputs (level, edges, counters) and the outputs that
// rules switch; it is empty in this release.
package gpio

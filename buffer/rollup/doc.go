// Package rollup folds readings into rollups: one row for each series and bucket of
// time, with count, sum, least, greatest, first and last. It is what the buffer
// does to old telemetry before it drops anything.
//
// A [Folder] is pure: readings go in, in the order of their numbers, and pieces come
// out. A piece stands for a range of numbers, alone: pieces do not share readings,
// and a receiver that holds the whole range of one needs nothing of it. A piece ends
// where a new bucket begins, once it has enough rows for a good block, so that a
// bucket is in one piece unless its readings come late, or there are too many series.
// A bucket that is in several has a row in each; their counts and sums add up.
//
// # What a row says
//
// Time is the time of the bucket's first reading as it was stored, whatever its value.
// The rest speaks of the readings that are finite and not [edgeagent.Bad]; a bucket
// without any gives no row. First and last are by order of append. States and booleans
// are numbers like the others: of them first, last, least and greatest tell most.
//
// A sum is rounded to 15 significant digits: the digits behind are what adding up
// decimal fractions left, and would take more space than the rest of the row.
//
// # Limits
//
// A Folder holds at most 16,384 rows, about 2 MiB with its index, and allocates
// nothing once it has met its series. It must not see readings of different runs,
// clock segments or states of synchronisation between two calls of Flush: their
// times do not compare. It serves one goroutine.
package rollup

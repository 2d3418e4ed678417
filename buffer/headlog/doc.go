// Package headlog is the first place a record is safe in: a log of two files of
// fixed size that takes a frame with one write and no sync.
package headlog

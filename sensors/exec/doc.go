// Package exec will run a program and read what it prints; it is empty in this
// release.
package exec

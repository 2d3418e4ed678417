// Package fleet will hold signed configuration pushes and commands; it is empty in
// this release.
package fleet

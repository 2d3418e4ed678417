// Package push will take readings that programs on the machine hand in over the
// local API; it is empty in this release.
package push

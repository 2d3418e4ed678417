// Package dsse will sign and verify the envelopes of configuration pushes and
// update manifests; in this release it is empty.
package dsse

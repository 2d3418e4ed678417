// Package trust will verify update metadata against the fleet's root keys; in this
// release it is empty.
package trust

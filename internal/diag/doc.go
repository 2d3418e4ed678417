// Package diag will collect the redacted bundle behind "edgeagent bugreport"; in
// this release it is empty.
package diag

// Package ota will stage, try, commit and roll back updates of the agent as a
// state machine without a network of its own; in this release it is empty.
package ota

// Package ruletest is empty in this release: it is the place of the tests that
// users write for their rules.
package ruletest

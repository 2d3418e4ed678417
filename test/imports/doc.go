// Package imports holds the test that keeps the arrows of ARCHITECTURE.md true. The
// tables in that page are its input: change the page and the test follows; add an
// import that the page does not allow and it fails.
package imports

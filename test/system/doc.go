// Package system drives the built programs as a user would, against real servers:
// Debian's mosquitto and its clients. `make test-system` builds the programs first;
// the tests are behind the build tag "system", so that `make test` needs none of
// this.
package system

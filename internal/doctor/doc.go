// Package doctor will hold the checks behind "edgeagent doctor" (buses,
// permissions, clock, disk, link); in this release it is empty.
package doctor

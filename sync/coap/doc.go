// Package coap will hold the CoAP transport, both ends; it is empty in this
// release.
package coap

// Package nats takes messages from a JetStream stream in which a NATS cluster keeps what
// gateways publish to its MQTT listener.
//
// NATS writes the levels of an MQTT topic with dots: ea/v1/acme/gw-1/d/live is the subject
// ea.v1.acme.gw-1.d.live, and a dot within a level is "//" there. A stream on
// "ea.v1.*.*.d.*" keeps them on disks of several nodes; workers share one durable consumer
// of it. A message goes to one worker at a time and is acknowledged after the commit; a
// worker that dies leaves its messages to the others, after [Options.AckWait]. So a message
// may come twice, to different workers: their store must leave out what it has.
//
// # Concurrency and limits
//
// Run hands messages over one at a time, and up to [MaxPending] or 16 MiB are fetched ahead. The
// server is told that a message is in progress while the handler works, so that it does not
// give it away; after ten times [Options.AckWait] the next one has its turn. While
// the cluster is away Run tries again for ever. Acks to gateways are published at QoS 0 by
// NATS's own terms: one that is lost is told again, since acks are cumulative.
package nats

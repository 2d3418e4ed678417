// Package service runs the agent under a service manager and installs it there.
//
// # Running
//
// [Run] calls a program's Start and ends it in order: on SIGINT or SIGTERM, when
// the context ends, or when Windows' service manager says so. A second signal,
// a second or more after the first, ends Run at once. SIGHUP is logged and changes nothing: there is no reload in this
// release, and an agent must not die with the terminal it was started from. The
// run loop is that of kardianos/service, on unix with a wait of our own in place of
// its wait for one signal. A [Notifier] tells systemd when the program is ready and
// what it is doing; elsewhere it does nothing.
//
// # Installing
//
// [Install], [Uninstall], [Start], [Stop], [Restart] and [Status] work on systemd
// with a unit of our own (see [Render]) and on every other service manager with
// what kardianos/service makes: OpenRC, SysV, procd, upstart, launchd, Windows. On
// systemd Install makes the system user, and lets it read the configuration; the
// other managers run the agent as the user that they start services with, usually
// root.
//
// The exit codes of "edgeagent service status" are those of [State.ExitCode]: 0
// running, 3 installed and not running (also while it fails and is started again),
// 1 not installed.
//
// The functions talk to the service manager by running its tools and must not be
// called concurrently for one service. They need root, except Status and Render.
//
// Limits: no watchdog, no socket activation, and of systemd's sandbox only what
// needs no mount namespace; the rest comes with updates over the air.
package service

//go:build linux

package pgtest

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a running PostgreSQL. Its methods are for one goroutine at a time.
type Server struct {
	t    testing.TB
	bin  string
	dir  string
	as   *syscall.Credential // nil: as who we are
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// Start makes a database and starts its server, which ends with the test.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{t: t, bin: find()}
	if s.bin == "" {
		t.Skip("no PostgreSQL server here: apt-get install postgresql")
	}
	var err error
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil { // short: a socket's path has 107 bytes
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	if s.as, err = account(); err != nil {
		t.Fatal(err)
	}
	if s.as != nil {
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := s.command("initdb", "-D", filepath.Join(s.dir, "data"), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	settings = append(settings, "listen_addresses = ''", "unix_socket_directories = '"+s.dir+"'", "max_connections = 50", "")
	f, err := os.OpenFile(filepath.Join(s.dir, "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(strings.Join(settings, "\n"))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// find returns the folder of the server's programs, "" if there is none.
func find() string {
	list, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(list) > 0 {
		return filepath.Dir(list[len(list)-1])
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		if _, err := exec.LookPath("postgres"); err == nil {
			return filepath.Dir(p)
		}
	}
	return ""
}

// account returns who the server runs as, nil for ourselves.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is an answer
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// URL returns the address of the database.
func (s *Server) URL() string {
	return "postgres:///postgres?user=test&host=" + url.QueryEscape(s.dir)
}

// Restart starts the server, which is not running, and waits until it answers. After
// [Server.Kill] it recovers what was committed.
func (s *Server) Restart() {
	s.t.Helper()
	deadline := time.After(time.Minute)
	for {
		s.start()
		if s.ready() {
			return
		}
		s.Kill()
		select {
		case <-deadline:
			s.t.Fatalf("PostgreSQL does not start:\n%s", s.text())
		case <-time.After(200 * time.Millisecond): // processes of a killed server are still ending
		}
	}
}

func (s *Server) start() {
	s.t.Helper()
	s.cmd = s.command("postgres", "-D", filepath.Join(s.dir, "data"))
	s.cmd.Stderr = (*logger)(s)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // it was killed, or says why it ended in its log
		close(done)
	}(s.cmd, s.done)
}

// ready waits until the server answers. It returns false if it has ended instead.
func (s *Server) ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if s.command("pg_isready", "-q", "-h", s.dir).Run() == nil {
			return true
		}
		select {
		case <-s.done:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return false
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may be gone
	<-s.done
	s.cmd = nil
}

type logger Server

func (l *logger) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log.Len() > 1<<20 {
		l.log.Reset()
	}
	return l.log.Write(p)
}

func (s *Server) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

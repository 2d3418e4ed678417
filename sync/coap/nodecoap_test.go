//go:build system

package coap

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent/internal/faultnet"
)

// The peer here is node-coap (npm: coap 1.5.0), which the test installs into a directory of its
// own.

// nodeServer keeps what is put and gives it back.
const nodeServer = `
const coap = require('coap'), held = {};
const s = coap.createServer((req, res) => {
  if (req.method === 'PUT') { held[req.url] = req.payload; res.code = '2.04'; return res.end(); }
  if (!held[req.url]) { res.code = '4.04'; return res.end(); }
  res.end(held[req.url]);
});
s.listen(0, '127.0.0.1', () => console.log(s._port || s._sock.address().port));
`

// nodeClient posts a file, fetches the resource and compares.
const nodeClient = `
const coap = require('coap'), fs = require('fs'), {URL} = require('url');
const [url, file] = process.argv.slice(2), body = fs.readFileSync(file), u = new URL(url);
const at = {hostname: u.hostname, port: u.port, pathname: u.pathname};
const put = coap.request({...at, method: 'POST'});
if (body.length > 1024) put.setOption('Block1', Buffer.from([6]));
put.on('response', r => {
  if (r.code !== '2.04') { console.log('post', r.code); process.exit(1); }
  const get = coap.request({...at, method: 'GET', agent: new coap.Agent({type: 'udp4'})});
  get.on('response', g => {
    const same = Buffer.compare(g.payload, body) === 0;
    if (!same) console.log('get', g.code, g.payload.length);
    process.exit(same ? 0 : 1);
  });
  get.end();
});
put.end(body);
`

// nodeDir returns a directory in which node finds the module.
func nodeDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", dir, "coap@1.5.0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, msg)
	}
	return dir
}

func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNodeCoap: both ways, with one loss each way.
func TestNodeCoap(t *testing.T) {
	dir := nodeDir(t)
	server, client := script(t, dir, "server.js", nodeServer), script(t, dir, "client.js", nodeClient)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "node", server)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + strings.TrimSpace(port)
	for _, size := range peerSizes {
		for _, imp := range impairments {
			t.Run(fmt.Sprintf("ours to it, %d bytes, %s", size, imp.name), func(t *testing.T) {
				t.Parallel()
				there(t, "coap://"+relayTo(t, addr, imp.up, imp.down), link{}, size)
			})
			t.Run(fmt.Sprintf("it to ours, %d bytes, %s", size, imp.name), func(t *testing.T) {
				t.Parallel()
				nodeHere(t, client, size, imp.up, imp.down)
			})
		}
	}
}

func nodeHere(t *testing.T, client string, size int, up, down faultnet.Faults) {
	t.Helper()
	f := newFarEnd()
	body := pattern(size)
	f.put = body
	in := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(in, body, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := relayTo(t, serveFar(t, f, "coap"), up, down)
	if msg, err := exec.CommandContext(t.Context(), "node", client, "coap://"+addr+"/x", in).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, msg)
	}
	f.mustHold(t, body)
}

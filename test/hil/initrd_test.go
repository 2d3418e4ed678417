//go:build hil && linux

package hil

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// initScript is the guest's first program: it does what the console says, a line at a
// time, and answers with "OUT …" for each line of output and "RC n".
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tmpfs tmp /tmp
ip link set lo up
stty -echo </dev/console
echo "HIL READY $(cut -d' ' -f1 /proc/uptime)"
while read -r line; do
  eval "$line" >/tmp/out 2>&1 </dev/null; rc=$?
  sed 's/^/OUT /' /tmp/out; echo "RC $rc"
done
poweroff -f
`

// initrd is an initial RAM disk that is being made: a cpio archive (newc).
type initrd struct {
	archive bytes.Buffer
	dirs    map[string]bool
	inode   int
}

func newInitrd() *initrd { return &initrd{dirs: map[string]bool{}} }

// add puts a file at a path such as "bin/edgeagent", and its directories before it.
func (d *initrd) add(name string, mode fs.FileMode, content []byte) {
	d.dir(path.Dir(name))
	d.entry(name, 0o100000|uint32(mode.Perm()), content)
}

func (d *initrd) dir(name string) {
	if name == "." || d.dirs[name] {
		return
	}
	d.dir(path.Dir(name))
	d.dirs[name] = true
	d.entry(name, 0o040755, nil)
}

// entry writes one header of 110 characters, the name and the content, each padded to
// four bytes.
func (d *initrd) entry(name string, mode uint32, content []byte) {
	d.inode++
	fmt.Fprintf(&d.archive, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		d.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	d.archive.WriteString(name + "\x00")
	d.pad()
	d.archive.Write(content)
	d.pad()
}

func (d *initrd) pad() {
	for d.archive.Len()%4 != 0 {
		d.archive.WriteByte(0)
	}
}

// write ends the archive and writes it, compressed.
func (d *initrd) write(t *testing.T, file string) {
	t.Helper()
	d.entry("TRAILER!!!", 0, nil)
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(d.archive.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// modules are the modules of an unpacked kernel package, by name.
type modules struct {
	version string
	files   map[string]string // "i2c_dev" → path on the host
	root    string            // lib/modules/VERSION on the host
	builtin string
}

func findModules(t *testing.T, kernel string) modules {
	t.Helper()
	roots, err := filepath.Glob(filepath.Join(kernel, "lib/modules/*"))
	if err != nil || len(roots) != 1 {
		t.Fatalf("modules in %s: %v, %v", kernel, roots, err)
	}
	m := modules{version: filepath.Base(roots[0]), files: map[string]string{}, root: roots[0]}
	err = filepath.WalkDir(m.root, func(file string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, ".ko") {
			m.files[moduleName(file)] = file
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	builtin, err := os.ReadFile(filepath.Join(m.root, "modules.builtin"))
	if err != nil {
		t.Fatal(err)
	}
	m.builtin = string(builtin)
	return m
}

// moduleName: dashes and underscores mean the same.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}

// depends reads what a module needs from its .modinfo section.
func depends(t *testing.T, file string) []string {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Section(".modinfo").Data()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ",")
		}
	}
	return nil
}

// addModules puts the named modules, and all that they need, into the disk, and a table
// for modprobe. A module that is built into the kernel is no module to add.
func (d *initrd) addModules(t *testing.T, m modules, names []string) {
	t.Helper()
	needs := map[string][]string{} // all that a module needs, each before what it needs itself
	var visit func(name string) []string
	visit = func(name string) []string {
		name = moduleName(name)
		file, ok := m.files[name]
		if !ok {
			if !strings.Contains(strings.ReplaceAll(m.builtin, "-", "_"), "/"+name+".ko") {
				t.Fatalf("kernel %s has no module %s", m.version, name)
			}
			return nil
		}
		if _, seen := needs[name]; seen {
			return append([]string{name}, needs[name]...)
		}
		var all []string
		for _, dep := range depends(t, file) {
			for _, n := range slices.Backward(visit(dep)) {
				if !slices.Contains(all, n) {
					all = append(all, n)
				}
			}
		}
		slices.Reverse(all)
		needs[name] = all
		return append([]string{name}, all...)
	}
	for _, name := range names {
		visit(name)
	}
	inside := func(name string) string {
		rel, err := filepath.Rel(m.root, m.files[name])
		if err != nil {
			t.Fatal(err)
		}
		return rel
	}
	var table strings.Builder
	for name, list := range needs {
		content, err := os.ReadFile(m.files[name])
		if err != nil {
			t.Fatal(err)
		}
		d.add("lib/modules/"+m.version+"/"+inside(name), 0o644, content)
		table.WriteString(inside(name) + ":")
		for _, dep := range list {
			table.WriteString(" " + inside(dep))
		}
		table.WriteByte('\n')
	}
	d.add("lib/modules/"+m.version+"/modules.dep", 0o644, []byte(table.String()))
	d.add("lib/modules/"+m.version+"/modules.builtin", 0o644, []byte(m.builtin))
}

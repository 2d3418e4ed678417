package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mount is a line of /proc/self/mountinfo.
type mount struct{ point, kind, source, options string }

// mountOf returns the mount that a path is on: of those that it lies below the longest,
// of several there the last.
func mountOf(mountinfo, path string) (mount, bool) {
	var best mount
	found := false
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		m := mount{point: unescape(f[4]), kind: g[0], source: g[1], options: f[5] + "," + g[2]}
		below := m.point == "/" || path == m.point || strings.HasPrefix(path, m.point+"/")
		if below && (!found || len(m.point) >= len(best.point)) {
			best, found = m, true
		}
	}
	return best, found
}

// unescape undoes \040 for a space and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// disk looks at the file system that the buffer is on.
func disk(m Machine, w Wanted) []Finding {
	if w.Buffer == "" {
		return nil
	}
	dir := w.Buffer
	for !m.has(dir) && dir != "/" { // it is made at the first start
		dir = filepath.Dir(dir)
	}
	where := "the buffer's directory " + w.Buffer
	at, found := mountOf(m.read("proc/self/mountinfo"), dir)
	var out []Finding
	if found {
		out = append(out, mountFindings(at, where)...)
	}
	space, err := Space{}, error(nil)
	if m.Space != nil {
		space, err = m.Space(dir)
	}
	switch {
	case m.Space == nil || err != nil:
		return append(out, Finding{"disk", Unknown, "how much is free for " + where + " cannot be seen", ""})
	case w.BufferLimit > 0 && space.Free < uint64(w.BufferLimit):
		return append(out, Finding{
			"disk", Warning, fmt.Sprintf("%s free, while the buffer may grow to %s", size(space.Free), size(uint64(w.BufferLimit))),
			`make room, or set "buffer.max_bytes" lower: a full disk makes the buffer thin its readings early`,
		})
	}
	text := fmt.Sprintf("%s of %s free", size(space.Free), size(space.Total))
	if found {
		text += " on " + at.kind
	}
	return append(out, Finding{"disk", OK, text, ""})
}

func mountFindings(at mount, where string) []Finding {
	options := strings.Split(at.options, ",")
	switch {
	case slices.Contains(options, "ro"):
		return []Finding{{"disk", Failed, where + " is on a file system that is read-only", `mount it writable, or set "buffer.dir" to one that is`}}
	case slices.Contains([]string{"tmpfs", "ramfs"}, at.kind):
		return []Finding{{"disk", Warning, where + " is in memory: a power cut loses it", `set "buffer.dir" to a directory on a disk`}}
	case slices.Contains([]string{"overlay", "aufs"}, at.kind):
		return []Finding{{"disk", Warning, where + " is on an overlay, which may be gone with the container or after a boot", `set "buffer.dir" to a volume`}}
	case slices.Contains([]string{"nfs", "nfs4", "cifs", "9p", "fuse.sshfs"}, at.kind):
		return []Finding{{"disk", Warning, where + " is on the network (" + at.kind + "): it is away when the network is", `set "buffer.dir" to a local disk`}}
	case slices.Contains([]string{"vfat", "exfat", "msdos"}, at.kind):
		return []Finding{{"disk", Warning, where + " is on " + at.kind + ", which a power cut can damage", `set "buffer.dir" to a file system with a journal, such as ext4`}}
	case strings.HasPrefix(at.source, "/dev/mmcblk") && !slices.Contains(options, "noatime") && !slices.Contains(options, "relatime"):
		return []Finding{{"disk", Warning, "each read of a file writes to the card", "add noatime to the mount options in /etc/fstab"}}
	}
	return nil
}

// wear reads what an eMMC says of its age (JEDEC 84-B50: life time in tenths, 11 is
// "beyond"); SD cards say nothing.
func wear(m Machine, _ Wanted) []Finding {
	var out []Finding
	for _, file := range m.glob("sys/block/mmcblk*/device/life_time") {
		card := strings.Split(file, "/")[3]
		worst := uint64(0)
		for word := range strings.FieldsSeq(m.read(file)) {
			if n, err := strconv.ParseUint(word, 0, 8); err == nil {
				worst = max(worst, n)
			}
		}
		switch {
		case worst == 0:
		case worst >= 9:
			out = append(out, Finding{
				"wear", Warning, fmt.Sprintf("the eMMC %s has used up %d %% of its life or more", card, (worst-1)*10),
				"replace it soon, and keep a copy of the configuration",
			})
		default:
			out = append(out, Finding{"wear", OK, fmt.Sprintf("the eMMC %s has used up at most %d %% of its life", card, worst*10), ""})
		}
	}
	return out
}

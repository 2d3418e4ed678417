package main

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgeagent/edgeagent/internal/doctor"
	"github.com/edgeagent/edgeagent/internal/service"
)

// thisMachine is where the doctor looks: this machine, as the user that the agent runs
// as, who is the service's if there is one.
func thisMachine() doctor.Machine {
	m := doctor.Machine{
		Root: "/", Arch: runtime.GOARCH, ARM: goARM(), Kernel: kernelArch(),
		Now: time.Now(), Built: buildTime(), Owner: ownerOf, Space: spaceOf,
	}
	u, err := user.Lookup(service.DefaultName)
	if err != nil {
		m.User, m.All = "with the number "+strconv.Itoa(os.Geteuid()), os.Geteuid() == 0
		if u, err = user.Current(); err != nil { // a machine without a list of users
			return m
		}
	}
	m.User, m.All = u.Username, u.Uid == "0"
	ids, err := u.GroupIds()
	if err != nil {
		return m
	}
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil {
			m.Groups = append(m.Groups, g.Name)
		}
	}
	return m
}

// goARM is the version of the ARM processor that the program was built for.
func goARM() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "GOARM" {
			return s.Value
		}
	}
	return ""
}

func kernelArch() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Machine[:])
}

func ownerOf(path string) (group string, mode fs.FileMode, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", 0, errors.ErrUnsupported
	}
	group = strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return group, info.Mode(), nil
}

func spaceOf(path string) (doctor.Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return doctor.Space{}, err
	}
	block := uint64(st.Bsize)
	return doctor.Space{Total: st.Blocks * block, Free: st.Bavail * block}, nil
}

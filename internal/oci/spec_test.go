package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent"
)

const allHeld = 1<<len(capabilityNames) - 1

func TestContainerCapabilities(t *testing.T) {
	defaults := "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"
	for _, test := range []struct {
		what         string
		security     agent.Security
		held         uint64
		want, denied string
	}{
		{"defaults", agent.Security{}, allHeld, defaults, ""},
		{"add", agent.Security{AddCapabilities: []string{"NET_ADMIN"}}, allHeld, strings.Replace(defaults, "NET_RAW", "NET_ADMIN NET_RAW", 1), ""},
		{"any spelling", agent.Security{AddCapabilities: []string{"cap_net_admin"}}, allHeld, strings.Replace(defaults, "NET_RAW", "NET_ADMIN NET_RAW", 1), ""},
		{"drop", agent.Security{DropCapabilities: []string{"KILL", "CAP_MKNOD"}}, allHeld, strings.NewReplacer("KILL ", "", "MKNOD ", "").Replace(defaults), ""},
		{"drop all", agent.Security{DropCapabilities: []string{"ALL"}}, allHeld, "", ""},
		{"drop all but one", agent.Security{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_BIND_SERVICE"}}, allHeld, "NET_BIND_SERVICE", ""},
		{"add all but one", agent.Security{AddCapabilities: []string{"ALL"}, DropCapabilities: []string{"SYS_ADMIN"}}, allHeld, strings.Replace(strings.Join(capabilityNames[:], " "), "SYS_ADMIN ", "", 1), ""},
		{"privileged", agent.Security{Privileged: true, DropCapabilities: []string{"ALL"}}, allHeld, strings.Join(capabilityNames[:], " "), ""},
		{"not held", agent.Security{AddCapabilities: []string{"SYS_RESOURCE"}}, allHeld &^ capSysResource, defaults, "SYS_RESOURCE"},
		{"privileged, not held", agent.Security{Privileged: true}, allHeld &^ capSysResource, strings.Replace(strings.Join(capabilityNames[:], " "), "SYS_RESOURCE ", "", 1), ""},
	} {
		given, denied := containerCapabilities(&test.security, test.held)
		plain := func(names []string) string { return strings.ReplaceAll(strings.Join(names, " "), "CAP_", "") }
		if plain(given) != test.want || plain(denied) != test.denied {
			t.Errorf("%s: %s, denied %s; want %s, denied %s", test.what, plain(given), plain(denied), test.want, test.denied)
		}
	}
}

func TestBuildSpec(t *testing.T) {
	group := int64(7)
	want := agent.ContainerSpec{
		Hostname: "web", NetNS: "/run/ns", Args: []string{"/app"}, Env: []string{"A=b"}, WorkingDir: "/srv",
		Mounts: []agent.Mount{
			{Source: "/host/deep", Destination: "/data/deep/er"}, {Source: "/host/data", Destination: "/data", ReadOnly: true},
			{Source: "/host/shm", Destination: "/dev/shm"},
		},
		Resources: agent.Resources{CPUShares: 2, CPUPeriod: 100000, MemoryLimit: 1 << 20, OOMScoreAdj: 1000},
		Security:  agent.Security{RunAsGroup: &group, SupplementalGroups: []int64{9, 8}, NoNewPrivileges: true},
	}
	on := host{rootfs: "/r", cgroupsPath: "/windlass/x", capabilities: allHeld, user: identity{uid: 1, gid: 2, groups: []uint32{8}}}
	spec, notes, err := buildSpec(&want, on)
	if err != nil || len(notes) > 0 {
		t.Fatal(notes, err)
	}
	if u := spec.Process.User; u.UID != 1 || u.GID != 7 || !slices.Equal(u.AdditionalGids, []uint32{7, 8, 9}) {
		t.Errorf("%+v", u)
	}
	index := func(destination string) int {
		i := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == destination })
		if i < 0 {
			t.Fatalf("nothing is mounted on %s", destination)
		}
		return i
	}
	if index("/data") > index("/data/deep/er") || index("/dev") > index("/dev/shm") {
		t.Errorf("a mount comes before the one it lies in: %+v", spec.Mounts)
	}
	if m := spec.Mounts[index("/dev/shm")]; m.Source != "/host/shm" {
		t.Errorf("the default is still on /dev/shm: %+v", m)
	}
	if !slices.Contains(spec.Mounts[index("/data")].Options, "ro") || !slices.Contains(spec.Mounts[index("/data/deep/er")].Options, "rw") {
		t.Errorf("%+v", spec.Mounts)
	}
	if r := spec.Linux.Resources; r.CPU.Quota != nil || r.CPU.Period != nil || *r.Memory.Limit != 1<<20 || r.Memory.Swap != nil || r.Pids != nil {
		t.Errorf("%+v", r)
	}
	if spec.Linux.Seccomp == nil || len(spec.Linux.MaskedPaths) == 0 || *spec.Process.OOMScoreAdj != 1000 || !slices.Contains(spec.Process.Env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") {
		t.Errorf("%+v", spec.Process)
	}
	has := func(kind specs.LinuxNamespaceType) bool {
		return slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
	}
	if !has(specs.NetworkNamespace) || has(specs.CgroupNamespace) {
		t.Errorf("%+v", spec.Linux.Namespaces)
	}

	want.NetNS, want.Security.Privileged, want.Resources.OOMScoreAdj, on.unified, on.oomGroup, on.capabilities = "", true, -5, true, true, allHeld&^capSysResource
	want.Resources.CPUShares = 1024
	spec, notes, err = buildSpec(&want, on)
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "CAP_SYS_RESOURCE") || *spec.Process.OOMScoreAdj != 0 {
		t.Error(notes, err)
	}
	if has(specs.NetworkNamespace) || !has(specs.CgroupNamespace) || spec.Linux.Seccomp != nil || len(spec.Linux.MaskedPaths) > 0 || *spec.Linux.Resources.Memory.Swap != 1<<20 || spec.Linux.Resources.Unified["memory.oom.group"] != "1" || spec.Linux.Resources.Unified["cpu.weight"] != "100" || spec.Linux.Resources.CPU != nil {
		t.Errorf("%+v", spec.Linux)
	}
}

// The kernel's ABIs are those that the default filter has rules for; a profile of
// the node's own says itself.
func TestSeccompArchitectures(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64 has an ABI that kernels leave out")
	}
	own := []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]}`)
	for _, test := range []struct {
		what    string
		profile []byte
		x32     bool
		want    []specs.Arch
	}{
		{"a kernel with x32", nil, true, []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}},
		{"a kernel without", nil, false, []specs.Arch{specs.ArchX86_64, specs.ArchX86}},
		{"a profile of the node's", own, false, []specs.Arch{specs.ArchX86_64, specs.ArchX32}},
	} {
		spec, _, err := buildSpec(&agent.ContainerSpec{Args: []string{"/app"}, Security: agent.Security{SeccompProfile: test.profile}}, host{x32: test.x32, capabilities: allHeld})
		if err != nil || !slices.Equal(spec.Linux.Seccomp.Architectures, test.want) {
			t.Errorf("%s: %v, %v; want %v", test.what, spec.Linux.Seccomp.Architectures, err, test.want)
		}
	}
}

func TestAppArmor(t *testing.T) {
	profile := func(kind corev1.AppArmorProfileType, name string) *corev1.AppArmorProfile {
		p := &corev1.AppArmorProfile{Type: kind}
		if name != "" {
			p.LocalhostProfile = &name
		}
		return p
	}
	for _, test := range []struct {
		profile    *corev1.AppArmorProfile
		enforced   bool
		want, note string
	}{
		{nil, true, "", ""},
		{profile(corev1.AppArmorProfileTypeUnconfined, ""), true, "", ""},
		{profile(corev1.AppArmorProfileTypeLocalhost, "strict"), true, "strict", ""},
		{profile(corev1.AppArmorProfileTypeLocalhost, "strict"), false, "", "no AppArmor"},
		{profile(corev1.AppArmorProfileTypeRuntimeDefault, ""), true, "", "no default one"},
	} {
		want := agent.ContainerSpec{Args: []string{"x"}, Security: agent.Security{AppArmor: test.profile}}
		spec, notes, err := buildSpec(&want, host{capabilities: allHeld, appArmor: test.enforced})
		if err != nil || spec.Process.ApparmorProfile != test.want || !strings.Contains(strings.Join(notes, ""), test.note) || test.note == "" && len(notes) > 0 {
			t.Errorf("%+v: %q, %q, %v", test, spec.Process.ApparmorProfile, notes, err)
		}
	}
}

func TestResolveUser(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/srv:/bin/sh\n# a comment\nbroken\n"
	const group = "root:x:0:\nweb:x:1001:\nlogs:x:1002:web\n"
	for spec, want := range map[string]identity{
		"": {}, "0": {}, "root": {}, "web": {1000, 1001, []uint32{1002}}, "1000": {1000, 1001, []uint32{1002}},
		"web:logs": {1000, 1002, nil}, "web:5": {1000, 5, nil}, "4711": {4711, 0, nil}, "4711:12": {4711, 12, nil}, "4711:logs": {4711, 1002, nil},
	} {
		got, err := resolveUser(spec, strings.NewReader(passwd), strings.NewReader(group))
		if err != nil || got.uid != want.uid || got.gid != want.gid || !slices.Equal(got.groups, want.groups) {
			t.Errorf("%q is %+v, %v; want %+v", spec, got, err, want)
		}
	}
	for _, spec := range []string{"nobody", "web:nobody", "-1", "99999999999"} {
		if got, err := resolveUser(spec, strings.NewReader(passwd), strings.NewReader(group)); err == nil {
			t.Errorf("%q is %+v", spec, got)
		}
	}
}

// What an image has as /etc/passwd cannot lead out of the image, nor hang us.
func TestOpenInRoot(t *testing.T) {
	dir := t.TempDir()
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(rootfs+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/secret", "intruder:x:0:0::/:/bin/sh\n")
	writeFile(t, rootfs+"/inside", "web:x:5:5::/:/bin/sh\n")
	for what, test := range map[string]struct {
		make func(path string) error
		uid  uint32
		fail bool
	}{
		"absent":                {func(string) error { return nil }, 0, true},
		"absolute link":         {func(p string) error { return os.Symlink("/inside", p) }, 5, false},
		"link out of the image": {func(p string) error { return os.Symlink("../../secret", p) }, 0, true},
		"absolute link out":     {func(p string) error { return os.Symlink(dir+"/secret", p) }, 0, true},
		"link to itself":        {func(p string) error { return os.Symlink("passwd", p) }, 0, true},
		"fifo":                  {func(p string) error { return unix.Mkfifo(p, 0o644) }, 0, true},
		"directory":             {func(p string) error { return os.Mkdir(p, 0o755) }, 0, true},
	} {
		path := rootfs + "/etc/passwd"
		if err := test.make(path); err != nil {
			t.Fatal(err)
		}
		name := "web"
		if strings.Contains(what, "out") {
			name = "intruder"
		}
		got, err := lookupUser(rootfs, name)
		if (err != nil) != test.fail || got.uid != test.uid {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseCgroups(t *testing.T) {
	mounts := parseCgroupMounts([]byte(`31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /elsewhere/cgroup rw - cgroup2 cgroup2 rw
broken line
`))
	if len(mounts) != 2 || mounts[0].unified || !slices.Contains(mounts[0].options, "cpuacct") || !mounts[1].unified {
		t.Errorf("%+v", mounts)
	}
	for text, want := range map[string][]string{
		"0::/user.slice\n":                        nil,
		"2:cpu,cpuacct:/\n1:name=systemd:/\n0::/": {"cpu,cpuacct", "name=systemd"},
		"3:../../evil:/\nbroken":                  nil,
	} {
		if got := parseHierarchies([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%q has %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]uint64{
		"low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\n":     2,
		"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n": 1,
		"": 0, "oom_kill": 0, "oom_kill x": 0,
	} {
		if got := parseOOMKills([]byte(text)); got != want {
			t.Errorf("%q has %d kills", text, got)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	for text, want := range map[string]int{`{"data": 12}` + "\n": 12, `{"pid": 13}`: 13, `{"data": 14, "message": "x"}`: 14} {
		if got, err := parseAnswer(strings.NewReader(text)); got != want || err != nil {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"": "EOF", "garbage": "garbage", `{}`: "no pid", `{"data": 0}`: "no pid",
		`{"data": -1, "message": "it broke\n"}`:                                                   "it broke",
		`{"data": -1, "message": "time=\"2026\" level=error msg=\"exec: \\\"x\\\": not found\""}`: `exec: "x": not found`,
	} {
		if _, err := parseAnswer(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: no %q in %v", text, want, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(`{"data": 12}`)
	f.Add(`{"data": -1, "message": "level=error msg=\"x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if pid, err := parseAnswer(strings.NewReader(text)); err == nil && pid <= 0 {
			t.Errorf("pid %d", pid)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"ID":"c1","PodUID":"u","Phase":"Running"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := parseRecord("c1", data)
		if err != nil {
			return
		}
		if checkIDs(rec.ID, rec.PodUID) != nil {
			t.Errorf("%+v", rec)
		}
		text, err := json.Marshal(rec)
		if err != nil {
			t.Skip() // a time that cannot be written
		}
		if _, err := parseRecord("c1", text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}

func FuzzParseProcStat(f *testing.F) {
	f.Add([]byte("12 (a) b) c) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := parseProcStat(data); err == nil && got.state == 0 {
			t.Error("no state")
		}
	})
}

func FuzzParseExitCode(f *testing.F) {
	f.Add([]byte("137"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if code, err := parseExitCode(data); err == nil && (code < 0 || code > 255) {
			t.Error(code)
		}
	})
}

func FuzzResolveUser(f *testing.F) {
	f.Add("web:logs", "web:x:1:2::/:/bin/sh", "logs:x:3:web")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		_, _ = resolveUser(spec, strings.NewReader(passwd), strings.NewReader(group))
	})
}

func FuzzParseCgroupMounts(f *testing.F) {
	f.Add([]byte("33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range parseCgroupMounts(data) {
			if !strings.HasPrefix(m.path, cgroupRoot) {
				t.Error(m.path)
			}
		}
	})
}

func TestBindOptions(t *testing.T) {
	both, in := corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer
	for _, test := range []struct {
		mount agent.Mount
		want  string
		root  string
	}{
		{agent.Mount{}, "rbind rprivate rw", ""},
		{agent.Mount{ReadOnly: true}, "rbind rprivate ro", ""},
		{agent.Mount{ReadOnly: true, Recursive: corev1.RecursiveReadOnlyDisabled}, "rbind rprivate ro", ""},
		{agent.Mount{ReadOnly: true, Recursive: corev1.RecursiveReadOnlyIfPossible}, "rbind rprivate rro", ""},
		{agent.Mount{ReadOnly: true, Recursive: corev1.RecursiveReadOnlyEnabled}, "rbind rprivate rro", ""},
		{agent.Mount{Propagation: corev1.MountPropagationNone}, "rbind rprivate rw", ""},
		{agent.Mount{Propagation: in}, "rbind rslave rw", "rslave"},
		{agent.Mount{Propagation: both}, "rbind rshared rw", "rshared"},
	} {
		if got := strings.Join(bindOptions(test.mount), " "); got != test.want {
			t.Errorf("%+v: %s, want %s", test.mount, got, test.want)
		}
		if got := rootPropagation([]agent.Mount{{}, test.mount, {}}); got != test.root {
			t.Errorf("%+v: root %q, want %q", test.mount, got, test.root)
		}
	}
}

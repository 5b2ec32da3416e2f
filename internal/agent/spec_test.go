package agent

import (
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/agent/environment"

	"windlass.dev/windlass/api/v1alpha1"
)

func TestArgs(t *testing.T) {
	image := &Image{Entrypoint: []string{"/entry"}, Cmd: []string{"$(A)"}}
	lookup := environment.Lookup([]string{"A=1"})
	for _, test := range []struct {
		command, args, want []string
	}{
		{nil, nil, []string{"/entry", "$(A)"}},
		{nil, []string{"$(A)"}, []string{"/entry", "1"}},
		{[]string{"/c", "$(A)"}, nil, []string{"/c", "1"}},
		{[]string{"/c"}, []string{"x"}, []string{"/c", "x"}},
	} {
		if got := argsOf(&corev1.Container{Command: test.command, Args: test.args}, image, lookup); !slices.Equal(got, test.want) {
			t.Errorf("%q %q: %q, want %q", test.command, test.args, got, test.want)
		}
	}
}

func TestUser(t *testing.T) {
	for _, test := range []struct {
		name        string
		image       string
		pod         *corev1.PodSecurityContext
		c           *corev1.SecurityContext
		user, group string
		err         string
	}{
		{"image", "www:www", nil, nil, "www:www", "", ""},
		{"pod", "www", &corev1.PodSecurityContext{RunAsUser: ptr.To(int64(5)), RunAsGroup: ptr.To(int64(6))}, nil, "5", "6", ""},
		{"container over pod", "", &corev1.PodSecurityContext{RunAsUser: ptr.To(int64(5)), RunAsGroup: ptr.To(int64(6))}, &corev1.SecurityContext{RunAsUser: ptr.To(int64(7))}, "7", "6", ""},
		{"non-root", "1000:0", nil, &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)}, "1000:0", "", ""},
		{"root image", "", nil, &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)}, "", "", "image will run as root"},
		{"zero image", "0", &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, nil, "", "", "image will run as root"},
		{"zero asked", "1000", nil, &corev1.SecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(0))}, "", "", "breaks non-root policy"},
		{"named", "www", nil, &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)}, "", "", "non-numeric user (www)"},
		{"container allows", "", &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, &corev1.SecurityContext{RunAsNonRoot: ptr.To(false)}, "", "", ""},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: test.pod}}
		user, group, err := userOf(pod, &corev1.Container{SecurityContext: test.c}, &Image{User: test.image})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", test.name, err, test.err)
			}
			continue
		}
		got := ""
		if group != nil {
			got = resource.NewQuantity(*group, resource.DecimalSI).String()
		}
		if err != nil || user != test.user || got != test.group {
			t.Errorf("%s: %q, %q, %v", test.name, user, got, err)
		}
	}
}

func TestSecurity(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{
		FSGroup: ptr.To(int64(9)), SupplementalGroups: []int64{8}, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined},
	}}}
	c := &corev1.Container{SecurityContext: &corev1.SecurityContext{
		ReadOnlyRootFilesystem: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false),
		Capabilities:   &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN", "cap_sys_time"}, Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}}
	want := Security{
		ReadOnlyRootFilesystem: true, NoNewPrivileges: true, AddCapabilities: []string{"NET_ADMIN", "SYS_TIME"}, DropCapabilities: []string{"ALL"},
		SupplementalGroups: []int64{8, 9},
	}
	if got := securityOf(pod, c, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := securityOf(pod, &corev1.Container{}, nil); !got.SeccompUnconfined {
		t.Error("the pod's seccomp profile is not taken")
	}
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{
		SupplementalGroupsPolicy: ptr.To(corev1.SupplementalGroupsPolicyStrict), Sysctls: []corev1.Sysctl{{Name: "net/ipv4/tcp_syncookies", Value: "1"}},
		AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault},
	}
	c.SecurityContext = &corev1.SecurityContext{ProcMount: ptr.To(corev1.UnmaskedProcMount)}
	want = Security{StrictGroups: true, Sysctls: map[string]string{"net.ipv4.tcp_syncookies": "1"}, AppArmor: pod.Spec.SecurityContext.AppArmorProfile, UnmaskedProc: true}
	if got := securityOf(pod, c, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A localhost profile is a file below the node's directory of them, and nothing else.
func TestLocalhostProfile(t *testing.T) {
	a := &Agent{cfg: Config{DataDir: t.TempDir()}}
	local := func(name string) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &name}}}}
	}
	if _, err := a.security(local("strict.json"), &corev1.Container{}, nil); err == nil || !strings.Contains(err.Error(), a.seccompDir()) {
		t.Errorf("no directory: %v", err)
	}
	if err := os.MkdirAll(a.seccompDir()+"/team", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"seccomp/team/strict.json": "{}", "seccomp/empty.json": "", "secret": "x"} {
		if err := os.WriteFile(a.cfg.DataDir+"/"+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret", a.seccompDir()+"/link"); err != nil {
		t.Fatal(err)
	}
	if s, err := a.security(local("team/strict.json"), &corev1.Container{}, nil); err != nil || string(s.SeccompProfile) != "{}" || s.SeccompUnconfined {
		t.Errorf("%+v, %v", s, err)
	}
	for _, name := range []string{"link", "../secret", "none", "empty.json", "team"} {
		if s, err := a.security(local(name), &corev1.Container{}, nil); err == nil || !strings.Contains(err.Error(), strconv.Quote(name)) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	privileged := &corev1.Container{SecurityContext: &corev1.SecurityContext{Privileged: ptr.To(true)}}
	if s, err := a.security(local("none"), privileged, nil); err != nil || !s.SeccompUnconfined {
		t.Errorf("privileged: %+v, %v", s, err)
	}
}

func TestResources(t *testing.T) {
	const gib = 1 << 30
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	for _, test := range []struct {
		name             string
		requests, limits corev1.ResourceList
		want             Resources
	}{
		{"none", nil, nil, Resources{CPUShares: 2, OOMScoreAdj: 1000}},
		{"guaranteed", list("500m", "1Gi"), list("500m", "1Gi"), Resources{CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000, MemoryLimit: gib, OOMScoreAdj: -997}},
		{"burstable", list("100m", "1Gi"), list("1", ""), Resources{CPUShares: 102, CPUQuota: 100_000, CPUPeriod: 100_000, OOMScoreAdj: 750}},
		{"tiny", list("1m", ""), list("5m", ""), Resources{CPUShares: 2, CPUQuota: 1000, CPUPeriod: 100_000, OOMScoreAdj: 999}},
		{"limit only", nil, list("2", ""), Resources{CPUShares: 2048, CPUQuota: 200_000, CPUPeriod: 100_000, OOMScoreAdj: 999}},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: test.requests, Limits: test.limits}}}}}
		if got := resourcesOf(pod, &pod.Spec.Containers[0], 4*gib); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestHostsFile(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0"}, Spec: corev1.PodSpec{
		Subdomain: "web", HostAliases: []corev1.HostAlias{{IP: "192.0.2.7", Hostnames: []string{"a", "b"}}},
	}}
	got := hostsFile(pod, "10.42.0.2", "cluster.local", "")
	for _, line := range []string{"127.0.0.1\tlocalhost\n", "10.42.0.2\tweb-0.web.ns.svc.cluster.local\tweb-0\n", "192.0.2.7\ta\tb\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("no line %q in:\n%s", line, got)
		}
	}
	pod.Spec.HostNetwork = true
	if got := hostsFile(pod, "", "cluster.local", "127.0.0.1 node\n"); !strings.Contains(got, "127.0.0.1 node\n") || !strings.Contains(got, "192.0.2.7") {
		t.Errorf("in the node's network:\n%s", got)
	}
}

func TestResolverFile(t *testing.T) {
	const node = "# the node's\nnameserver 192.0.2.53\nsearch example.org\noptions timeout:1\n"
	a := &Agent{cfg: Config{ClusterDNS: []netip.Addr{netip.MustParseAddr("10.43.0.10")}, Domain: "cluster.local"}}
	for _, test := range []struct {
		name string
		spec corev1.PodSpec
		want string
	}{
		{"cluster first", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, "search ns.svc.cluster.local svc.cluster.local cluster.local example.org\nnameserver 10.43.0.10\noptions ndots:5\n"},
		{"default", corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, "search example.org\nnameserver 192.0.2.53\noptions timeout:1\n"},
		{"node's network", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, "search example.org\nnameserver 192.0.2.53\noptions timeout:1\n"},
		{"none", corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.9"}}}, "nameserver 192.0.2.9\n"},
		{"config", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{
			Searches: []string{"a.b", "cluster.local"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "edns0"}},
		}}, "search ns.svc.cluster.local svc.cluster.local cluster.local example.org a.b\nnameserver 10.43.0.10\noptions ndots:2 edns0\n"},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: test.spec}
		if got := a.resolverFile(pod, node); got != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", test.name, got, test.want)
		}
	}
	// The node's loopback is another than a pod's.
	const stub = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\noptions edns0 trust-ad\nsearch .\n"
	for want, pod := range map[string]corev1.PodSpec{
		"search .\nnameserver 10.43.0.10\nnameserver 192.0.2.53\noptions edns0 trust-ad\n":                 {DNSPolicy: corev1.DNSDefault},
		"search .\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\noptions edns0 trust-ad\n": {DNSPolicy: corev1.DNSDefault, HostNetwork: true},
		"search ns.svc.cluster.local svc.cluster.local cluster.local .\nnameserver 10.43.0.10\noptions ndots:5\n": {
			DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true},
	} {
		if got := a.resolverFile(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: pod}, stub); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", pod.DNSPolicy, got, want)
		}
	}
}

func FuzzParseResolver(f *testing.F) {
	f.Add("nameserver 1.2.3.4\nsearch a b\noptions ndots:5\n")
	f.Fuzz(func(t *testing.T, text string) {
		servers, searches, options := parseResolver(text)
		again, searchesAgain, optionsAgain := parseResolver(formatResolver(servers, searches, options))
		if !slices.Equal(servers, again) || !slices.Equal(searches, searchesAgain) || !slices.Equal(options, optionsAgain) {
			t.Errorf("%q: written and read again it differs", text)
		}
	})
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "quit": syscall.SIGQUIT, "SIGWINCH": syscall.SIGWINCH, "3": syscall.SIGQUIT,
		"SIGRTMIN+3": 37, "SIGRTMIN": 34, "RTMAX-2": 62, "SIGRTMAX": 64, "SIGRTMIN+99": syscall.SIGTERM, "SIGNONE": syscall.SIGTERM, "0": syscall.SIGTERM, "99": syscall.SIGTERM, "-9": syscall.SIGTERM,
	} {
		if got := parseSignal(text); got != want {
			t.Errorf("parseSignal(%q) = %d, want %d", text, got, want)
		}
	}
}

func FuzzParseSignal(f *testing.F) {
	f.Add("SIGRTMIN+3")
	f.Add("9")
	f.Fuzz(func(t *testing.T, text string) {
		if got := parseSignal(text); got < 1 || got > 64 {
			t.Errorf("parseSignal(%q) = %d", text, got)
		}
	})
}

func FuzzParseMemTotal(f *testing.F) {
	f.Add([]byte("MemTotal:       24683932 kB\nMemFree: 1 kB\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := parseMemTotal(data); err == nil && got < 0 {
			t.Errorf("parseMemTotal(%q) = %d", data, got)
		}
	})
}

func TestParseMemTotal(t *testing.T) {
	if got, err := parseMemTotal([]byte("MemFree: 1 kB\nMemTotal:       24683932 kB\n")); err != nil || got != 24683932<<10 {
		t.Errorf("%d, %v", got, err)
	}
	for _, bad := range []string{"", "MemTotal:", "MemTotal: x kB", "MemTotal: -1 kB"} {
		if got, err := parseMemTotal([]byte(bad)); err == nil {
			t.Errorf("%q: %d, want an error", bad, got)
		}
	}
}

func FuzzParseLogQuery(f *testing.F) {
	f.Add("follow=true&tailLines=3&limitBytes=9&sinceSeconds=5&timestamps=1&previous=false")
	f.Add("sinceSeconds=9223372036854775807&sinceTime=2026-01-01T00:00:00Z")
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q, err := parseLogQuery(values, stepEpoch)
		if err == nil && (q.Tail < 0 || q.HasLimit && q.Limit < 1 || !values.Has("sinceTime") && q.Since.After(stepEpoch)) {
			t.Errorf("%q: %+v", query, q)
		}
	})
}

// The patch of a status keeps the conditions and annotations of others and names
// the pod's UID.
func TestStatusPatch(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Annotations: map[string]string{"a": "b"}}, Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at},
	}}}
	want := pod.Status.DeepCopy()
	want.Phase = corev1.PodRunning
	want.Conditions = append(want.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at})
	moment := metav1.NewMicroTime(at.Add(1500 * time.Microsecond))
	patch, err := statusPatch(pod, &report{*want, v1alpha1.PodMoments{Ready: &moment}})
	if err != nil {
		t.Fatal(err)
	}
	const text = `{"metadata":{"annotations":{"windlass.dev/moments":"{\"ready\":\"2026-01-01T00:00:00.001500Z\"}"},"uid":"u"},"status":{"$setElementOrder/conditions":[{"type":"PodScheduled"},{"type":"Ready"}],` +
		`"conditions":[{"lastProbeTime":null,"lastTransitionTime":"2026-01-01T00:00:00Z","status":"True","type":"Ready"}],"phase":"Running"}}`
	if string(patch) != text {
		t.Errorf("%s\nwant\n%s", patch, text)
	}
}

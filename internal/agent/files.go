package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/environment"
)

func (a *Agent) volumesDir(pod *corev1.Pod) string {
	return filepath.Join(a.podDir(pod.UID), "volumes")
}

// facts is what the downward API tells of a pod with an address, "" if that is
// not known yet.
func (a *Agent) facts(ip string) environment.Facts {
	f := environment.Facts{HostIPs: []string{a.cfg.NodeIP.String()}, Allocatable: a.allocatable()}
	if ip != "" {
		f.PodIPs = []string{ip}
	}
	return f
}

// writePodFiles writes the files that every container of a pod sees in /etc and
// returns where they belong.
func (a *Agent) writePodFiles(pod *corev1.Pod, ip string) ([]Mount, error) {
	hostname, err := kernelNameOf(pod, a.cfg.Domain)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(a.podDir(pod.UID), "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	nodeHosts, err := readIfThere("/etc/hosts")
	if err != nil {
		return nil, err
	}
	nodeResolver, err := readIfThere("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	var mounts []Mount
	for _, file := range []struct{ name, content string }{
		{"hosts", hostsFile(pod, ip, a.cfg.Domain, nodeHosts)},
		{"hostname", hostname + "\n"},
		{"resolv.conf", a.resolverFile(pod, nodeResolver)},
	} {
		path := filepath.Join(dir, file.name)
		if err := writeIfOther(path, []byte(file.content)); err != nil {
			return nil, err
		}
		mounts = append(mounts, Mount{Source: path, Destination: "/etc/" + file.name})
	}
	return mounts, nil
}

func readIfThere(path string) (string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(content), err
}

// writeIfOther leaves a file alone that another container has mounted already.
func writeIfOther(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return os.WriteFile(path, content, 0o644)
}

// hostsFile is a pod's /etc/hosts; a pod in the node's network has the node's.
func hostsFile(pod *corev1.Pod, ip, domain, node string) string {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n" + node)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		name := hostnameOf(pod)
		if full := fullNameOf(pod, domain); full != "" {
			name = full + "\t" + name
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, alias := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
		}
	}
	return b.String()
}

// resolverFile is a pod's /etc/resolv.conf, as its dnsPolicy and dnsConfig say.
func (a *Agent) resolverFile(pod *corev1.Pod, node string) string {
	servers, searches, options := parseResolver(node)
	if !pod.Spec.HostNetwork {
		servers = a.reachable(servers)
	}
	policy := pod.Spec.DNSPolicy
	if pod.Spec.HostNetwork && policy == corev1.DNSClusterFirst {
		policy = corev1.DNSDefault
	}
	switch {
	case policy == corev1.DNSNone:
		servers, searches, options = nil, nil, nil
	case policy != corev1.DNSDefault && len(a.cfg.ClusterDNS) > 0:
		servers = nil
		for _, ip := range a.cfg.ClusterDNS {
			servers = append(servers, ip.String())
		}
		searches = append([]string{pod.Namespace + ".svc." + a.cfg.Domain, "svc." + a.cfg.Domain, a.cfg.Domain}, searches...)
		options = []string{"ndots:5"}
	}
	if config := pod.Spec.DNSConfig; config != nil {
		servers = append(servers, config.Nameservers...)
		searches = append(searches, config.Searches...)
		for _, option := range config.Options {
			text := option.Name
			if option.Value != nil {
				text += ":" + *option.Value
			}
			options = slices.DeleteFunc(options, func(old string) bool {
				name, _, _ := strings.Cut(old, ":")
				return name == option.Name
			})
			options = append(options, text)
		}
	}
	return formatResolver(unique(servers), unique(searches), options)
}

// reachable returns resolvers of the node for a pod with a network of its own:
// one that listens on the node's loopback only is asked by way of the cluster's
// DNS, which forwards to it.
func (a *Agent) reachable(servers []string) []string {
	if len(a.cfg.ClusterDNS) == 0 {
		return servers
	}
	var list []string
	for _, server := range servers {
		if ip, err := netip.ParseAddr(server); err == nil && ip.IsLoopback() {
			server = a.cfg.ClusterDNS[0].String()
		}
		list = append(list, server)
	}
	return list
}

func unique(list []string) []string {
	var once []string
	for _, item := range list {
		if !slices.Contains(once, item) {
			once = append(once, item)
		}
	}
	return once
}

func formatResolver(servers, searches, options []string) string {
	var b strings.Builder
	if len(searches) > 0 {
		b.WriteString("search " + strings.Join(searches, " ") + "\n")
	}
	for _, server := range servers {
		b.WriteString("nameserver " + server + "\n")
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.String()
}

// parseResolver reads a resolv.conf(5).
func parseResolver(text string) (servers, searches, options []string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			servers = append(servers, fields[1])
		case "search":
			searches = slices.Clone(fields[1:])
		case "options":
			options = append(options, fields[1:]...)
		}
	}
	return servers, searches, options
}

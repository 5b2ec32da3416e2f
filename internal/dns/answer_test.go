package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/yaml"
)

func newTestZone() *Zone {
	return newZone("cluster.local", netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("10.43.0.0/16"))
}

// TestAnswers runs scripts of what a zone is told and asked:
//
//	set      a Service or an EndpointSlice, in YAML; several are parted by ---
//	delete   likewise
//	ask      lines of a type and a name
func TestAnswers(t *testing.T) {
	datadriven.Walk(t, "testdata/answers", func(t *testing.T, path string) {
		zone := newTestZone()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "set", "delete":
				for _, text := range strings.Split(d.Input, "---\n") {
					change(t, zone, d.Cmd == "delete", text)
				}
				return ""
			case "ask":
				var out strings.Builder
				for _, line := range strings.Split(d.Input, "\n") {
					kind, name, _ := strings.Cut(line, " ")
					fmt.Fprintf(&out, "%s\n%s", line, show(zone.Answer(dns.Question{Name: name, Qtype: dns.StringToType[kind], Qclass: dns.ClassINET})))
				}
				return out.String()
			}
			t.Fatalf("%s: no command %s", d.Pos, d.Cmd)
			return ""
		})
	})
}

func change(t testing.TB, zone *Zone, remove bool, text string) {
	t.Helper()
	if strings.Contains(text, "endpoints:") || strings.Contains(text, "kubernetes.io/service-name") {
		slice := &discoveryv1.EndpointSlice{}
		if err := yaml.UnmarshalStrict([]byte(text), slice); err != nil {
			t.Fatal(err)
		}
		if remove {
			zone.DeleteSlice(slice)
		} else {
			zone.SetSlice(slice)
		}
		return
	}
	service := &corev1.Service{}
	if err := yaml.UnmarshalStrict([]byte(text), service); err != nil {
		t.Fatal(err)
	}
	if remove {
		zone.DeleteService(service)
	} else {
		zone.SetService(service)
	}
}

// show prints an answer; of an SOA only whose it is.
func show(a Answer, ours bool) string {
	if !ours {
		return "  not ours\n"
	}
	var out strings.Builder
	if a.Rcode != dns.RcodeSuccess || len(a.Records) == 0 {
		fmt.Fprintf(&out, "  %s\n", dns.RcodeToString[a.Rcode])
	}
	for _, section := range []struct {
		mark    string
		records []dns.RR
	}{{"", a.Records}, {"also ", a.Extra}, {"origin ", a.Origin}} {
		for _, record := range section.records {
			text := strings.ReplaceAll(record.String(), "\t", " ")
			if soa, ok := record.(*dns.SOA); ok {
				text = fmt.Sprintf("%s SOA, kept %d s", soa.Hdr.Name, min(soa.Hdr.Ttl, soa.Minttl))
			}
			fmt.Fprintf(&out, "  %s%s\n", section.mark, text)
		}
	}
	if a.Alias != "" {
		fmt.Fprintf(&out, "  go on with %s\n", a.Alias)
	}
	return out.String()
}

// TestZoneForgets: what comes and goes, in whatever order, leaves nothing.
func TestZoneForgets(t *testing.T) {
	service := func(ip string) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: ip}}
		s.Namespace, s.Name = "ns", "web"
		return s
	}
	slice := func(name string, addresses ...string) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{}
		s.Namespace, s.Name, s.Labels = "ns", name, map[string]string{discoveryv1.LabelServiceName: "web"}
		for _, address := range addresses {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
		}
		return s
	}
	for name, change := range map[string]func(z *Zone){
		"service first": func(z *Zone) { z.DeleteService(service("None")); z.DeleteSlice(slice("a")); z.DeleteSlice(slice("b")) },
		"slices first":  func(z *Zone) { z.DeleteSlice(slice("a")); z.DeleteSlice(slice("b")); z.DeleteService(service("None")) },
		"became virtual": func(z *Zone) {
			z.SetService(service("10.43.0.7"))
			z.DeleteSlice(slice("a"))
			z.DeleteSlice(slice("b"))
			z.DeleteService(service("10.43.0.7"))
		},
		"endpoints changed": func(z *Zone) {
			z.SetSlice(slice("a", "10.42.0.9"))
			z.DeleteSlice(slice("a"))
			z.DeleteService(service("None"))
			z.DeleteSlice(slice("b"))
		},
	} {
		z := newTestZone()
		z.SetSlice(slice("a", "10.42.0.2", "10.42.0.3"))
		z.SetService(service("None"))
		z.SetSlice(slice("b", "10.42.0.3", "10.42.0.4"))
		if len(z.addresses) != 3 || len(z.services) != 1 || len(z.namespaces) != 1 {
			t.Fatalf("%s: before: %v, %v, %v", name, z.addresses, z.services, z.namespaces)
		}
		change(z)
		if len(z.addresses)+len(z.services)+len(z.namespaces) != 0 {
			t.Errorf("%s: left: %v, %v, %v", name, z.addresses, z.services, z.namespaces)
		}
	}
}

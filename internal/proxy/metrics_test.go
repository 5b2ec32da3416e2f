package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestMetrics: each Service that is served has its three counters, at zero when
// it had no traffic; an error of the kernel is one of the scrape.
func TestMetrics(t *testing.T) {
	kernel := NewMemory()
	counters := &failingCounters{Counters: kernel}
	config := Config{NodeName: testNode.Name, PodRange: testNode.PodRange, ServiceRange: testNode.ServiceRange, Kernel: kernel, Counters: counters, Flows: &MemoryFlows{}}
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range parseState(t, "service web ip=10.43.0.10 port=80\nservice other/quiet ip=10.43.0.11 port=80\nservice headless ip=None port=80").Services {
		p.model.SetService(service)
	}
	set(t, p.table, p.model.Compile())
	kernel.Send(Path{netip.MustParseAddrPort("10.43.0.10:80"), netip.MustParseAddrPort("10.42.0.5:80")}, v1alpha1.TrafficCount{Connections: 5, Refused: 2, Reset: 1})

	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(p); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			got = append(got, fmt.Sprint(family.GetName(), " ", m.GetLabel()[0].GetValue(), "/", m.GetLabel()[1].GetValue(), " ", m.GetCounter().GetValue()))
		}
	}
	want := []string{
		"windlass_service_connections_total default/web 5", "windlass_service_connections_total other/quiet 0",
		"windlass_service_refused_total default/web 2", "windlass_service_refused_total other/quiet 0",
		"windlass_service_reset_total default/web 1", "windlass_service_reset_total other/quiet 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	counters.fail.Store(true)
	if _, err := registry.Gather(); err == nil {
		t.Error("no error while the counters cannot be read")
	}
}

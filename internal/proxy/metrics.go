package proxy

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"windlass.dev/windlass/api/v1alpha1"
)

// The metrics of a Proxy. docs/draining.md says what they can and cannot see.
var (
	connectionsMetric = serviceMetric("connections", "New TCP connections that this node sent to an endpoint of the Service.")
	refusedMetric     = serviceMetric("refused", "New TCP connections to the Service that an endpoint refused, that could not reach one, or that found none.")
	resetMetric       = serviceMetric("reset", "Established TCP connections to the Service that the server's side reset.")
)

func serviceMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("windlass_service_"+name+"_total", help, []string{"namespace", "service"}, nil)
}

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(to chan<- *prometheus.Desc) {
	to <- connectionsMetric
	to <- refusedMetric
	to <- resetMetric
}

// Collect implements prometheus.Collector: it reads the kernel's counters now.
func (p *Proxy) Collect(to chan<- prometheus.Metric) {
	sums, err := p.meter.read()
	if err != nil {
		to <- prometheus.NewInvalidMetric(connectionsMetric, fmt.Errorf("service traffic: %w", err))
		return
	}
	p.mu.Lock()
	services := p.model.Served()
	p.mu.Unlock()
	for _, service := range services {
		namespace, name, _ := strings.Cut(service, "/")
		for desc, n := range metricsOf(sums[service]) {
			to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), namespace, name)
		}
	}
}

func metricsOf(count v1alpha1.TrafficCount) map[*prometheus.Desc]int64 {
	return map[*prometheus.Desc]int64{connectionsMetric: count.Connections, refusedMetric: count.Refused, resetMetric: count.Reset}
}

package dns

import (
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts queries by where their answers came from.
type metrics struct{ queries *prometheus.CounterVec }

func newMetrics() metrics {
	return metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "windlass_dns_queries_total",
		Help: "DNS queries of this node's pods, by where the answer came from (cluster, cache, forward, none) and its code.",
	}, []string{"from", "rcode"})}
}

func (m metrics) count(from source, rcode int) {
	m.queries.WithLabelValues(string(from), codeName(rcode)).Inc()
}

// codeName bounds what resolvers can make up to what has a name.
func codeName(rcode int) string {
	if name, ok := dns.RcodeToString[rcode]; ok {
		return name
	}
	return "other"
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(to chan<- *prometheus.Desc) { s.metrics.queries.Describe(to) }

// Collect implements prometheus.Collector.
func (s *Server) Collect(to chan<- prometheus.Metric) { s.metrics.queries.Collect(to) }

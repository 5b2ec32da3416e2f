package join

import (
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReasonRevoked says of an API status that the Node that a certificate was for has
// been deleted.
const ReasonRevoked metav1.StatusReason = "CertificateRevoked"

// Path is where the API server answers Requests, by POST.
const Path = "/windlass/join"

// Request asks for a node's certificate: with a token, or, from a client that
// bears the node's certificate already, without.
type Request struct {
	Token       string     `json:"token,omitempty"`
	Node        string     `json:"node"`
	Address     netip.Addr `json:"address"` // at which the API server reaches the agent
	Certificate []byte     `json:"certificateRequest"`
	Time        time.Time  `json:"time,omitzero"` // by the machine's clock
}

// Answer is what comes of a Request: the node's certificate, in PEM, and what a
// node must know of its cluster; or else Refused.
type Answer struct {
	Certificate []byte  `json:"certificate,omitempty"`
	Cluster     Cluster `json:"cluster"`
	Refused     string  `json:"refused,omitempty"`
	Revoked     bool    `json:"revoked,omitempty"` // the bearer's certificate, with its Node
}

// Cluster is what is the same for all nodes of a cluster.
type Cluster struct {
	PodRange     netip.Prefix `json:"podRange"`     // of all nodes' pods
	ServiceRange netip.Prefix `json:"serviceRange"` // of Services
	DNS          netip.Addr   `json:"dns"`          // that pods ask for names
	Domain       string       `json:"domain"`       // that the names of Services end in
}

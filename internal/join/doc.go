// Package join makes a machine a node of a cluster.
//
// A join token is what the administrator carries from the one to the other:
//
//	WL1<SHA-256 of the cluster's authority, in hexadecimal>::<id>.<secret>
//
// The machine first checks that the server's certificate was signed by the
// authority that the token names, and only then says the secret. It gets a
// certificate of its own, keeps it in its data directory, and from then on is
// known by that alone: the token may end or be revoked. Before the certificate
// ends the machine has it signed anew, by proving that it still has it.
//
// Tokens are Secrets of type bootstrap.kubernetes.io/token in kube-system, as
// Kubernetes keeps its bootstrap tokens.
package join

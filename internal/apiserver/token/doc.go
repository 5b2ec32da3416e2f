// Package token makes and reads the tokens of ServiceAccounts: JSON Web Tokens
// (RFC 7519) signed with ECDSA P-256, whose claims are those of Kubernetes, and
// what others need to check them (OpenID Connect Discovery 1.0).
package token

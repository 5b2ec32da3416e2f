// Package serviceaccount gives every namespace what its pods rely on: the
// ServiceAccount "default" and the ConfigMap "kube-root-ca.crt" with the
// certificate by which they know the API.
package serviceaccount

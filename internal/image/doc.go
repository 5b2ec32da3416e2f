// Package image keeps this node's container images, with the image and storage
// libraries of podman and CRI-O. It implements agent.Images.
//
//	reference.go  what a user may call an image, and Docker's rules for it
//	store.go      the store: find, list, remove
//	load.go       from an archive: docker save's, or OCI's (archive.go)
//	pull.go       from a registry (registries.go: how it is spoken to; flight.go:
//	              one pull for many; meter.go: how far it is); registry.go asks one
//	              without pulling
//	gc.go         which images go when the disk is full, pure; collect.go deletes
//	              them; usage.go remembers when they were used
//	records.go    mends what the disk has damaged
//	serve.go      the store over HTTP, client.go its client, socket.go their socket:
//	              what "windlass image" speaks to
//
// Everything is below the data directory: layers and images in images, temporary
// files in images/tmp, locks in run/images; registries.conf, auth.json and
// certs.d beside them when the administrator puts them there. Of what is not
// there, registries.conf, registries.d and certs.d are read from /etc/containers.
//
// Layers are extracted by a copy of the running program, which changes its root
// directory first: a program with this package in it must begin with Reexec.
package image

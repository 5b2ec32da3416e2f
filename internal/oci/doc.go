// Package oci runs containers with an OCI runtime (runc, or any that speaks its
// command line) under conmon, which holds each container's standard streams, log
// file and exit code. Containers outlive the process that started them.
//
// It implements agent.Runtime. Everything it knows is under the data directory,
// so that a later process finds it again:
//
//	containers/<id>/container.json   the record (record.go)
//	containers/<id>/config.json      the OCI bundle (spec.go)
//	containers/<id>/rootfs           where the overlay is mounted while it is created (rootfs.go)
//	containers/<id>/{upper,work}     what the container writes
//	containers/<id>/{pid,conmon.pid,oom}  written by runc and conmon
//	containers/<id>/{attach,ctl,winsz}    conmon's socket and control pipes (attach.go)
//	(its log)                        beside its rotated files, wherever the agent wants it (logs.go)
//	run/exits/<id>                   the exit code, written by conmon (exits.go)
//	run/exec-*                       of commands being run in containers (exec.go, execstream.go)
//	run/runc/<id>                    the OCI runtime's own state
//	pause/                           the image of the first process of pods that share theirs (pause.go)
//
// and in the kernel, in each cgroup hierarchy (cgroup.go):
//
//	/windlass/<hash of the data directory>/pod<uid>/<id>
//
// A container's record goes
//
//	(none) --Start--> Creating --process runs--> Running --process ends--> Exited --Remove--> (none)
//
// and a record found in Creating by List belongs to a Start that a crash cut
// short: it is wiped, with its process.
//
// The overlay is mounted in the server's mount namespace only from before
// "runc create" until after it: from then on the container's own mount namespace
// holds it, so nothing is left to unmount when the container ends, whichever
// mount namespace the server runs in by then.
package oci

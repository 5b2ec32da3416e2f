package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeKubectl answers as kubectl does of a cluster with sixty pods that are well,
// one that waits for its claim, and far more to tell than anybody reads.
const fakeKubectl = `#!/bin/sh
many() { i=0; while [ $i -lt "$1" ]; do echo "$2"; i=$((i+1)); done; }
case "$1 $2" in
"get pods")
	echo "NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE"
	many 60 "default web-1 1/1 Running 0 1m 10.42.0.7 node-0"
	echo "default job-1 0/1 Completed 0 1m 10.42.0.8 node-0"
	echo "default store-0 0/1 Pending 0 1m <none> <none>"
	echo "default slow-0 1/2 Running 2 1m 10.42.0.9 node-1" ;;
"get pvc")
	echo "NAMESPACE NAME STATUS"
	many 60 "default data-store-1 Bound"
	many 100 "default data-store-0 Pending" ;;
"get pv") echo "NAME STATUS"; many 60 "pvc-1 Bound" ;;
"get nodes") echo "node-0 Ready" ;;
"get events") many 100 "an old warning"; echo "the newest warning" ;;
"describe pod" | "describe pvc") echo "Name: $5"; many 100 "a line of what it is"; echo "its last event" ;;
*) echo "what is $*?" >&2; exit 1 ;;
esac
`

func TestTrouble(t *testing.T) {
	dir := t.TempDir()
	kubectl := filepath.Join(dir, "kubectl")
	if err := os.WriteFile(kubectl, []byte(fakeKubectl), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Kubectl: kubectl, Dir: filepath.Join(dir, "data")}
	got := c.Trouble(t.Context(), "")
	at := 0
	for _, want := range []string{
		"default store-0 0/1 Pending", "default slow-0 1/2 Running", "data-store-0 Pending", "node-0 Ready",
		"the newest warning", "Name: store-0", "its last event", "Name: slow-0", "Name: data-store-0",
	} {
		i := strings.Index(got, want)
		if i < at {
			t.Errorf("%q is not there, or not in its order, in\n%s", want, got)
		}
		at = max(at, i)
	}
	for _, well := range []string{"web-1", "job-1", "data-store-1", "volumes that", "what is "} {
		if strings.Contains(got, well) {
			t.Errorf("%q is there, in\n%s", well, got)
		}
	}
	if len(got) > 9000 {
		t.Errorf("it takes %d bytes", len(got))
	}
}

func TestComplaints(t *testing.T) {
	log := strings.Repeat("time=1 level=INFO msg=well\n", 1000) + "time=2 level=ERROR msg=\"what it was\"\n" +
		strings.Repeat("time=3 level=WARN msg=\"etcd: apply request took too long\"\n", 1000) + "panic: and more\n"
	if got, want := complaints(log), "time=2 level=ERROR msg=\"what it was\"\npanic: and more\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := complaints(strings.Repeat("time=2 level=ERROR msg=again\n", 1000)); len(got) > troubleLog+len("…") {
		t.Errorf("%d bytes of complaints", len(got))
	}
}

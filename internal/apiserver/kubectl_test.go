package apiserver_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// kubectl returns a function that runs kubectl as a user would, over TLS, and
// gives what it printed. The test is skipped where there is none.
func kubectl(t *testing.T, server *apiservertest.Server) func(stdin, args string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("kubectl is not installed")
	}
	cached := t.TempDir()
	return func(stdin, args string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, path, append([]string{"--kubeconfig", server.Kubeconfig, "--cache-dir", cached}, strings.Fields(args)...)...)
		command.Stdin = strings.NewReader(stdin)
		output, err := command.CombinedOutput()
		return string(output), err
	}
}

// TestKubectl walks the API as kubectl's users do, over TLS.
func TestKubectl(t *testing.T) {
	run := kubectl(t, apiservertest.StartIn(t, t.TempDir()))
	const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "httpd:1", ports: [{containerPort: 80}]}]}
`
	const record = `
apiVersion: windlass.dev/v1alpha1
kind: RolloutRecord
metadata: {name: web-2}
spec:
  target: {apiVersion: apps/v1, kind: Deployment, name: web, uid: u}
  revision: 2
  to: {name: web-b, images: ["httpd:2"]}
  cause: image main httpd:1 → httpd:2
  startedAt: "2026-01-10T11:50:00.000000Z"
`
	stateful := strings.ReplaceAll(strings.Replace(web, "Deployment", "StatefulSet", 1), "httpd", "db")
	const revision = `
apiVersion: apps/v1
kind: ControllerRevision
metadata: {name: web-1, labels: {app: web}}
data: {spec: {template: {$patch: replace}}}
revision: 1
`
	for _, step := range []struct {
		args, stdin string
		want        string
		fails       bool
	}{
		{args: "get namespaces", want: "kube-node-lease"},
		{args: "version", want: "Server Version: v1.37"},
		{args: "apply -f -", stdin: web, want: "deployment.apps/web created"},
		{args: "apply -f -", stdin: web, want: "deployment.apps/web unchanged"},
		{args: "apply -f -", stdin: strings.Replace(web, "replicas:", "replicaas:", 1), want: `unknown field "spec.replicaas"`, fails: true},
		{args: "apply --server-side --field-manager=ci -f -", stdin: strings.Replace(web, "httpd:1", "httpd:2", 1), want: `conflict with "kubectl-client-side-apply"`, fails: true},
		{args: "diff -f -", stdin: strings.Replace(web, "httpd:1", "httpd:2", 1), want: "+      - image: httpd:2", fails: true},
		{args: "set image deployment/web main=httpd:3", want: "image updated"},
		{args: "scale deployment web --replicas=5", want: "scaled"},
		{args: "get deploy web -o jsonpath={.spec.replicas},{.spec.template.spec.containers[0].image}", want: "5,httpd:3"},
		{args: "label deployment web tier=front", want: "labeled"},
		{args: "get deploy -l tier=front -o name", want: "deployment.apps/web"},
		{args: "expose deployment web --type=NodePort --port=80", want: "service/web exposed"},
		{args: "get all", want: "service/web"},
		{args: "get svc web -o wide", want: "NodePort"},
		{args: "explain pod.spec.containers.image", want: "Container image name."},
		{args: "explain deployment.spec.strategy --output=plaintext-openapiv2", want: "rollingUpdate"},
		{args: "run p --image=busybox --dry-run=server", want: "pod/p created (server dry run)"},
		{args: "get pods", want: "No resources found"},
		{args: "run p --image=busybox", want: "pod/p created"},
		{args: "describe pod p", want: "Service Account:  default"},
		{args: "get events", want: "No resources found"},
		{args: "rollout history deployment web", want: "deployment.apps/web"},
		{args: "delete pod p", want: `pod "p" deleted`},
		{args: "delete deployment,svc web", want: `service "web" deleted`},
		{args: "api-resources --categories=all -o name", want: "replicasets.apps"},
		{args: "apply -f -", stdin: record, want: "rolloutrecord.windlass.dev/web-2 created"},
		{args: "apply -f -", stdin: record, want: "rolloutrecord.windlass.dev/web-2 unchanged"},
		{args: "apply -f -", stdin: strings.Replace(record, "revision: 2", "revisoin: 2", 1), want: `unknown field "spec.revisoin"`, fails: true},
		{args: "apply -f -", stdin: strings.Replace(record, "revision: 2", "revision: 0", 1), want: "spec.revision: Invalid value: 0: must be 1 or more", fails: true},
		{args: "apply --server-side --force-conflicts -f -", stdin: record, want: "web-2 serverside-applied"},
		{args: `patch rr web-2 --type=merge --subresource=status -p {"status":{"phase":"Failed","reason":"CrashLoop","pods":[{"name":"a","set":"web-b"}]}}`, want: "patched"},
		{args: `patch rr web-2 --type=json -p [{"op":"replace","path":"/spec/cause","value":"because"}]`, want: "patched"},
		{args: "get rr", want: "deployment/web   2          because   Failed (CrashLoop)"},
		{args: "get rolloutrecords -o wide", want: "httpd:2"},
		{args: "get rolloutrecord.windlass.dev --field-selector=spec.target.name=web,status.phase=Failed -o name", want: "rolloutrecord.windlass.dev/web-2"},
		{args: "describe rr web-2", want: "Reason:            CrashLoop"},
		{args: "explain rolloutrecord.spec", want: "Target is what was changed"},
		{args: "explain rr.status.pods.imageReady", want: "when all images were on the node"},
		{args: "explain rolloutrecord.status --output=plaintext-openapiv2", want: "EndedAt is when the outcome was reached."},
		{args: "delete rr web-2", want: `rolloutrecord.windlass.dev "web-2" deleted`},
		{args: "apply -f -", stdin: stateful, want: "statefulset.apps/web created"},
		{args: "apply -f -", stdin: stateful, want: "statefulset.apps/web unchanged"},
		{args: "get sts", want: "web    0/3"},
		{args: "scale sts/web --replicas=2", want: "statefulset.apps/web scaled"},
		{args: "set image sts/web main=db:2", want: "statefulset.apps/web image updated"},
		{args: "get sts/web -o jsonpath={.metadata.generation},{.spec.replicas},{.metadata.annotations.windlass\\.dev/changed-by}", want: `3,2,{"user":`},
		{args: "describe sts web", want: "Replicas:           2 desired | 0 total"},
		{args: `patch sts web --type=merge -p {"spec":{"serviceName":"other"}}`, want: "updates to statefulset spec for fields other than", fails: true},
		{args: "explain sts.spec.ordinals", want: "ordinals controls the numbering of replica indices"},
		{args: "create -f -", stdin: revision, want: "controllerrevision.apps/web-1 created"},
		{args: "get controllerrevisions", want: "web-1   <none>       1"},
		{args: `patch controllerrevision web-1 --type=merge -p {"revision":2}`, want: "patched"},
		{args: `patch controllerrevision web-1 --type=merge -p {"data":{"x":1}}`, want: "field is immutable", fails: true},
		{args: "delete sts web", want: `statefulset.apps "web" deleted`},
		{args: "apply -f -", stdin: strings.Replace(web, "Deployment", "DaemonSet", 1), want: `no matches for kind "DaemonSet" in version "apps/v1"`, fails: true},
		{args: "create namespace nowhere --dry-run=server -o yaml", want: "phase: Active"},
		{args: "get --raw /readyz?verbose", want: "[+]poststarthook/windlass-bootstrap ok"},
	} {
		output, err := run(step.stdin, step.args)
		if (err != nil) != step.fails || !strings.Contains(output, step.want) {
			t.Errorf("kubectl %s: %v, want %q in\n%s", step.args, err, step.want, output)
		}
	}
}

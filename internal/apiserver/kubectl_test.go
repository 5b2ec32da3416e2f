package apiserver_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// TestKubectl walks the API as kubectl's users do, over TLS.
func TestKubectl(t *testing.T) {
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("kubectl is not installed")
	}
	server := apiservertest.StartIn(t, t.TempDir())
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
		{args: "create namespace nowhere --dry-run=server -o yaml", want: "phase: Active"},
		{args: "get --raw /readyz?verbose", want: "[+]poststarthook/windlass-bootstrap ok"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		command := exec.CommandContext(ctx, path, append([]string{"--kubeconfig", server.Kubeconfig, "--cache-dir", t.TempDir()}, strings.Fields(step.args)...)...)
		command.Stdin = strings.NewReader(step.stdin)
		output, err := command.CombinedOutput()
		cancel()
		if (err != nil) != step.fails || !strings.Contains(string(output), step.want) {
			t.Errorf("kubectl %s: %v, want %q in\n%s", step.args, err, step.want, output)
		}
	}
}

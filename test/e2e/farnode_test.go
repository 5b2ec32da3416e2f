package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// onNode1 are pods of a node that joined: one that reads what it is attached to,
// has files of a ConfigMap and a Secret, and keeps data of a claim.
const onNode1 = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {word: open}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: far}
spec:
  nodeSelector: {kubernetes.io/hostname: node-1}
  terminationGracePeriodSeconds: 1
  containers:
  - name: far
    image: busybox:1
    stdin: true
    args: ['-c', 'ln -s busybox /bin/tar; ln -s busybox /bin/cat; mkdir -p /tmp; echo begun; while read line; do echo got $line; done; exec sleep 86400']
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: key, mountPath: /key}
    - {name: data, mountPath: /data}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: key, secret: {secretName: key}}
  - {name: data, persistentVolumeClaim: {claimName: data}}
`

// background starts a command of the cluster's that goes on, whose output goes to
// a file, and returns what it has said so far. It is ended with the test.
func background(t *testing.T, c *harness.Cluster, input *os.File, command ...string) (said func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	args := append(append([]string{}, c.Wrap...), command...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	cmd.Stdout, cmd.Stderr = out, out
	if input != nil {
		cmd.Stdin = input
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return func() string {
		content, _ := os.ReadFile(path)
		return string(content)
	}
}

// says waits until something contains a text.
func says(t *testing.T, said func() string, want string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		if got := said(); !strings.Contains(got, want) {
			return fmt.Sprintf("want %q, it says %q", want, got)
		}
		return ""
	})
}

// farNode: whatever kubectl does with a pod it does with one of a node that joined;
// its files follow what they are made of; and its data stays, where it is.
func farNode(t *testing.T, f *harness.Fleet) {
	c := f.Server
	run := func(command ...string) func() string {
		return func() string {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			out, err := c.Run(ctx, command...)
			if err != nil {
				return err.Error()
			}
			return out
		}
	}
	k := func(args ...string) func() string { return run(append([]string{c.Kubectl}, args...)...) }
	apply(t, c, onNode1)
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/far", "--timeout=120s")

	if got := kubectl(t, c, "exec", "far", "--", "sh", "-c", "echo kept > /data/file; hostname"); got != "far\n" {
		t.Errorf("a command says %q", got)
	}
	if _, err := c.KubectlRun(within(t, time.Minute), "exec", "far", "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error(), "exit code 7") {
		t.Errorf("a command that ends with 7: %v", err)
	}
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	content := strings.Repeat("0123456789abcdef", 1<<16)
	if err := os.WriteFile(there, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "cp", there, "far:/tmp/file")
	kubectl(t, c, "cp", "far:/tmp/file", back)
	if got, err := os.ReadFile(back); err != nil || string(got) != content {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(content), err)
	}

	followed := background(t, c, nil, c.Kubectl, "logs", "-f", "far")
	says(t, followed, "begun")
	typed, typing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer typing.Close()
	attached := background(t, c, typed, c.Kubectl, "attach", "-i", "far")
	typed.Close()
	fmt.Fprintln(typing, "hello")
	says(t, attached, "got hello")
	says(t, followed, "got hello")

	_ = background(t, c, nil, c.Kubectl, "proxy", "--port=18001")
	for _, at := range []struct{ path, want string }{
		{"/api/v1/namespaces/default/pods/web-1/proxy/", "on web-1"},
		{"/api/v1/namespaces/default/services/web:80/proxy/", "on web-"},
		{"/api/v1/nodes/node-1/proxy/metrics", "windlass_service_"},
	} {
		says(t, run("wget", "-qO-", "-T5", "-t1", "http://127.0.0.1:18001"+at.path), at.want)
	}
	says(t, k("top", "node", "node-1"), "node-1")
	says(t, k("top", "pod", "web-1"), "web-1")
	if got := kubectl(t, c, "debug", "far", "--image=busybox:1", "--target=far", "--attach=true", "-q", "--", "sh", "-c", "ps | grep -c 'while rea[d]'"); !strings.Contains(got, "1") {
		t.Errorf("who debugs sees %q", got)
	}

	says(t, k("exec", "far", "--", "cat", "/settings/colour", "/key/word"), "greenopen")
	kubectl(t, c, "patch", "configmap", "settings", "-p", `{"data":{"colour":"blue"}}`)
	kubectl(t, c, "patch", "secret", "key", "-p", `{"stringData":{"word":"sesame"}}`)
	says(t, k("exec", "far", "--", "cat", "/settings/colour", "/key/word"), "bluesesame")

	// The next pod of the claim goes to where its data is, without being told.
	kubectl(t, c, "delete", "pod", "far")
	apply(t, c, strings.Replace(onNode1, "  nodeSelector: {kubernetes.io/hostname: node-1}\n", "", 1))
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/far", "--timeout=120s")
	if node := kubectl(t, c, "get", "pod", "far", "-o", "jsonpath={.spec.nodeName}"); node != "node-1" {
		t.Errorf("the pod goes to %s, and its data is on node-1", node)
	}
	if got := kubectl(t, c, "exec", "far", "--", "cat", "/data/file"); got != "kept\n" {
		t.Errorf("the data is %q", got)
	}
}

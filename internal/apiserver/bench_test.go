package apiserver_test

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// BenchmarkCreatePod writes through the loopback and through TLS, one client and 16.
func BenchmarkCreatePod(b *testing.B) {
	server := apiservertest.StartIn(b, b.TempDir())
	remote, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	remote.QPS, remote.ContentType = -1, runtime.ContentTypeProtobuf
	var n atomic.Int64
	for name, clients := range map[string]*kubernetes.Clientset{
		"loopback": kubernetes.NewForConfigOrDie(server.Config), "tls": kubernetes.NewForConfigOrDie(remote),
	} {
		create := func(b *testing.B) {
			_, err := clients.CoreV1().Pods("default").Create(b.Context(), pod(fmt.Sprintf("p%d", n.Add(1))), metav1.CreateOptions{})
			if err != nil {
				b.Error(err)
			}
		}
		b.Run(name+"/1", func(b *testing.B) {
			for b.Loop() {
				create(b)
			}
		})
		b.Run(name+"/16", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					create(b)
				}
			})
		})
	}
}

// BenchmarkWriteToWatch is the time from sending a write to its watch event.
func BenchmarkWriteToWatch(b *testing.B) {
	maps := kubernetes.NewForConfigOrDie(apiservertest.Start(b)).CoreV1().ConfigMaps("default")
	if _, err := maps.Create(b.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	w, err := maps.Watch(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	<-w.ResultChan()
	i := 0
	for b.Loop() {
		i++
		if _, err := maps.Patch(b.Context(), "a", types.MergePatchType, fmt.Appendf(nil, `{"data":{"i":"%d"}}`, i), metav1.PatchOptions{}); err != nil {
			b.Fatal(err)
		}
		<-w.ResultChan()
	}
}

// BenchmarkRecordStatus writes what happens to 500 pods in 200 steps as a rollout goes on:
// the whole status, and a patch of one count as each node's proxy sends.
func BenchmarkRecordStatus(b *testing.B) {
	c := newClient(b, apiservertest.Start(b))
	record := rolloutRecord("httpd-2")
	if err := c.Create(b.Context(), record); err != nil {
		b.Fatal(err)
	}
	now := metav1.NowMicro()
	for i := range 200 {
		record.Status.Steps = append(record.Status.Steps, v1alpha1.RolloutStep{
			Time: now, Set: "httpd-5c7b9d8f6", From: int32(i), To: int32(i + 1), Why: "3 of 25 may be unavailable, 2 are: one fewer old"})
	}
	for i := range 500 {
		record.Status.Pods = append(record.Status.Pods, v1alpha1.PodTimeline{
			Name: fmt.Sprintf("httpd-5c7b9d8f6-x%04d", i), Set: "httpd-5c7b9d8f6", Node: "node-1",
			Created: &now, Scheduled: &now, ImageReady: &now, Started: &now, Ready: &now, Available: &now,
			StopRequested: &now, EndpointRemoved: &now, Drained: &now, Stopped: &now})
	}
	if err := c.Status().Update(b.Context(), record); err != nil {
		b.Fatal(err)
	}
	size, err := json.Marshal(record)
	if err != nil {
		b.Fatal(err)
	}
	i := int32(0)
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		b.ReportMetric(float64(len(size)), "B/record")
		for b.Loop() {
			i++
			record.Status.UpdatedReplicas = i
			if err := c.Status().Update(b.Context(), record); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("patch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			i++
			patch := fmt.Appendf(nil, `{"status":{"traffic":{"node-1":{"connections":%d,"refused":0,"reset":0}}}}`, i)
			if err := c.Status().Patch(b.Context(), record, client.RawPatch(types.MergePatchType, patch)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

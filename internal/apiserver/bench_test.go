package apiserver_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

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
	for name, client := range map[string]*kubernetes.Clientset{
		"loopback": kubernetes.NewForConfigOrDie(server.Config), "tls": kubernetes.NewForConfigOrDie(remote),
	} {
		create := func(b *testing.B) {
			_, err := client.CoreV1().Pods("default").Create(b.Context(), pod(fmt.Sprintf("p%d", n.Add(1))), metav1.CreateOptions{})
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
	client := kubernetes.NewForConfigOrDie(apiservertest.Start(b))
	maps := client.CoreV1().ConfigMaps("default")
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

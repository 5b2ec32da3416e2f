package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func secretCreate(_ context.Context, obj runtime.Object) { foldStringData(obj.(*corev1.Secret)) }

func secretUpdate(_ context.Context, obj, old runtime.Object) {
	s := obj.(*corev1.Secret)
	foldStringData(s)
	// A type left out means the type it has.
	if s.Type == "" {
		s.Type = old.(*corev1.Secret).Type
	}
}

// foldStringData turns the write-only stringData into data, over which it wins.
func foldStringData(s *corev1.Secret) {
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

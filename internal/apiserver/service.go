package apiserver

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
)

func serviceCreate(context.Context, runtime.Object)                 {}
func serviceUpdate(context.Context, runtime.Object, runtime.Object) {}

func newServices(_ context.Context, _ Config, r resource) (resource, error) { return r, nil }

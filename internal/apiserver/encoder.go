package apiserver

import (
	"io"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
)

// copyingEncoder encodes a shallow copy of each object, so that the version
// which encoding sets is not seen by others that hold the same object.
type copyingEncoder struct{ runtime.Encoder }

// Encode implements runtime.Encoder.
func (e copyingEncoder) Encode(obj runtime.Object, w io.Writer) error {
	return e.Encoder.Encode(shallow(obj), w)
}

// allocatingEncoder is a copyingEncoder for encoders that can reuse memory.
type allocatingEncoder struct {
	copyingEncoder
	inner runtime.EncoderWithAllocator
}

// EncodeWithAllocator implements runtime.EncoderWithAllocator.
func (e allocatingEncoder) EncodeWithAllocator(obj runtime.Object, w io.Writer, memory runtime.MemoryAllocator) error {
	return e.inner.EncodeWithAllocator(shallow(obj), w, memory)
}

// shallow copies the struct that obj points to. Objects that cache their own
// encoding hand out deep copies, and are left alone, as are non-structs.
func shallow(obj runtime.Object) runtime.Object {
	if _, ok := obj.(runtime.CacheableObject); ok {
		return obj
	}
	value := reflect.ValueOf(obj)
	if value.Kind() != reflect.Pointer || value.IsNil() || value.Elem().Kind() != reflect.Struct {
		return obj
	}
	copied := reflect.New(value.Elem().Type())
	copied.Elem().Set(value.Elem())
	return copied.Interface().(runtime.Object)
}

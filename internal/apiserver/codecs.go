package apiserver

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"windlass.dev/windlass/api/v1alpha1"
)

// codecs is a codec factory whose encoders never write to the object they
// encode. The library's set the version on it while they work, which does no
// harm where memory and wire types differ; here the object may be in a cache.
type codecs struct {
	serializer.CodecFactory

	// text leaves out protobuf, which Kubernetes' own types have and ours do not:
	// clients are told to speak JSON or YAML.
	text bool
}

var _ runtime.StorageSerializer = codecs{}

func newCodecs(scheme *runtime.Scheme) codecs {
	return codecs{CodecFactory: serializer.NewCodecFactory(scheme,
		serializer.WithStreamingCollectionEncodingToJSON(),
		serializer.WithStreamingCollectionEncodingToProtobuf(),
	)}
}

// of returns the codecs for a group of kinds.
func (c codecs) of(group string) codecs {
	c.text = group == v1alpha1.GroupVersion.Group
	return c
}

// stored is the media type that objects have in the store.
func (c codecs) stored() string {
	if c.text {
		return runtime.ContentTypeJSON
	}
	return runtime.ContentTypeProtobuf
}

// SupportedMediaTypes implements runtime.NegotiatedSerializer.
func (c codecs) SupportedMediaTypes() []runtime.SerializerInfo {
	all := c.CodecFactory.SupportedMediaTypes()
	if !c.text {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(info runtime.SerializerInfo) bool {
		return info.MediaType == runtime.ContentTypeProtobuf
	})
}

// EncoderForVersion implements runtime.NegotiatedSerializer.
func (c codecs) EncoderForVersion(encoder runtime.Encoder, gv runtime.GroupVersioner) runtime.Encoder {
	inner := c.CodecFactory.EncoderForVersion(encoder, gv)
	if allocating, ok := inner.(runtime.EncoderWithAllocator); ok {
		return allocatingEncoder{copyingEncoder{inner}, allocating}
	}
	return copyingEncoder{inner}
}

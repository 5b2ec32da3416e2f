package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	genericrest "k8s.io/apiserver/pkg/registry/generic/rest"
	"k8s.io/apiserver/pkg/registry/rest"
)

// logs is the log subresource of pods. The agent on the pod's node has the logs;
// the request is passed on to it.
type logs struct {
	pods   *registry.Store
	agents agents
}

var (
	_ rest.GetterWithOptions = logs{}
	_ rest.StorageMetadata   = logs{}
)

// New implements rest.Storage.
func (logs) New() runtime.Object { return &corev1.Pod{} }

// Destroy implements rest.Storage.
func (logs) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata.
func (logs) ProducesMIMETypes(string) []string { return []string{"text/plain"} }

// ProducesObject implements rest.StorageMetadata.
func (logs) ProducesObject(string) any { return "" }

// NewGetOptions implements rest.GetterWithOptions.
func (logs) NewGetOptions() (runtime.Object, bool, string) { return &corev1.PodLogOptions{}, false, "" }

// OverrideMetricsVerb names following and reading apart in metrics.
func (logs) OverrideMetricsVerb(verb string) string {
	if verb == http.MethodGet {
		return http.MethodConnect
	}
	return verb
}

// Get implements rest.GetterWithOptions. It returns a streamer of the log, of an
// empty one when the pod runs nowhere yet.
func (l logs) Get(ctx context.Context, name string, options runtime.Object) (runtime.Object, error) {
	wanted, ok := options.(*corev1.PodLogOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	found, err := l.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := found.(*corev1.Pod)
	container, err := chooseContainer(pod, wanted.Container)
	if err != nil {
		return nil, err
	}
	if err := checkLogOptions(wanted); err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return &genericrest.LocationStreamer{ContentType: "text/plain"}, nil
	}
	host, err := l.agents.hostPort(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	return &genericrest.LocationStreamer{
		Location: &url.URL{
			Scheme:   "https",
			Host:     host,
			Path:     fmt.Sprintf("/containerLogs/%s/%s/%s", pod.Namespace, pod.Name, container),
			RawQuery: logQuery(wanted).Encode(),
		},
		Transport:       l.agents.transport,
		ContentType:     "text/plain",
		Flush:           wanted.Follow,
		ResponseChecker: genericrest.NewGenericHttpResponseChecker(corev1.Resource("pods/log"), name),
		RedirectChecker: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func checkLogOptions(o *corev1.PodLogOptions) error {
	switch {
	case o.TailLines != nil && *o.TailLines < 0:
		return apierrors.NewBadRequest("tailLines: must be greater than or equal to 0")
	case o.LimitBytes != nil && *o.LimitBytes < 1:
		return apierrors.NewBadRequest("limitBytes: must be greater than 0")
	case o.SinceSeconds != nil && o.SinceTime != nil:
		return apierrors.NewBadRequest("at most one of `sinceTime` or `sinceSeconds` may be specified")
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		return apierrors.NewBadRequest("sinceSeconds: must be greater than 0")
	}
	return nil
}

// logQuery writes the options as the agent reads them.
func logQuery(o *corev1.PodLogOptions) url.Values {
	query := url.Values{}
	for name, set := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if set {
			query.Set(name, "true")
		}
	}
	for name, number := range map[string]*int64{"tailLines": o.TailLines, "limitBytes": o.LimitBytes, "sinceSeconds": o.SinceSeconds} {
		if number != nil {
			query.Set(name, strconv.FormatInt(*number, 10))
		}
	}
	if o.SinceTime != nil {
		query.Set("sinceTime", o.SinceTime.UTC().Format(time.RFC3339))
	}
	return query
}

// addLogOptions lets the scheme read a log request's query.
func addLogOptions(scheme *runtime.Scheme) error {
	return scheme.AddConversionFunc(&url.Values{}, &corev1.PodLogOptions{}, func(a, b any, s conversion.Scope) error {
		query, out := a.(*url.Values), b.(*corev1.PodLogOptions)
		return decodeLogOptions(*query, out, s)
	})
}

func decodeLogOptions(query url.Values, out *corev1.PodLogOptions, s conversion.Scope) error {
	get := func(name string) (*[]string, bool) {
		values, ok := query[name]
		return &values, ok && len(values) > 0
	}
	var stream string
	for name, into := range map[string]func(*[]string) error{
		"container":    func(v *[]string) error { return runtime.Convert_Slice_string_To_string(v, &out.Container, s) },
		"follow":       func(v *[]string) error { return runtime.Convert_Slice_string_To_bool(v, &out.Follow, s) },
		"previous":     func(v *[]string) error { return runtime.Convert_Slice_string_To_bool(v, &out.Previous, s) },
		"timestamps":   func(v *[]string) error { return runtime.Convert_Slice_string_To_bool(v, &out.Timestamps, s) },
		"sinceSeconds": func(v *[]string) error { return runtime.Convert_Slice_string_To_Pointer_int64(v, &out.SinceSeconds, s) },
		"tailLines":    func(v *[]string) error { return runtime.Convert_Slice_string_To_Pointer_int64(v, &out.TailLines, s) },
		"limitBytes":   func(v *[]string) error { return runtime.Convert_Slice_string_To_Pointer_int64(v, &out.LimitBytes, s) },
		"sinceTime":    func(v *[]string) error { return metav1.Convert_Slice_string_To_Pointer_v1_Time(v, &out.SinceTime, s) },
		"stream":       func(v *[]string) error { return runtime.Convert_Slice_string_To_string(v, &stream, s) },
		"insecureSkipTLSVerifyBackend": func(v *[]string) error {
			return runtime.Convert_Slice_string_To_bool(v, &out.InsecureSkipTLSVerifyBackend, s)
		},
	} {
		if values, ok := get(name); ok {
			if err := into(values); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if stream != "" {
		out.Stream = &stream
	}
	return nil
}

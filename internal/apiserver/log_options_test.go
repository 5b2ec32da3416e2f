package apiserver

import (
	"net/url"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// FuzzLogOptions reads queries as they come from outside: what is understood is
// passed on to the agent so that it reads as the same.
func FuzzLogOptions(f *testing.F) {
	for _, query := range []string{
		"", "follow=true&tailLines=5", "sinceTime=1970-01-01T00:00:00Z", "sinceSeconds=x", "limitBytes=-1", "previous=1&previous=0",
		"container=a%2Fb", "stream=Stdout", "sinceTime=", "timestamps", "tailLines=9223372036854775808",
	} {
		f.Add(query)
	}
	scheme, err := newScheme()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			t.Skip()
		}
		var options, again corev1.PodLogOptions
		if err := scheme.Convert(&query, &options, nil); err != nil || checkLogOptions(&options) != nil {
			return
		}
		passed := logQuery(&options)
		if err := scheme.Convert(&passed, &again, nil); err != nil {
			t.Fatalf("%q is passed on as %q: %v", text, passed.Encode(), err)
		}
		again.Container, again.Stream, again.InsecureSkipTLSVerifyBackend = options.Container, options.Stream, options.InsecureSkipTLSVerifyBackend
		if !again.SinceTime.Equal(options.SinceTime) {
			t.Fatalf("%q: since %v became %v", text, options.SinceTime, again.SinceTime)
		}
		again.SinceTime = options.SinceTime
		if !reflect.DeepEqual(options, again) {
			t.Fatalf("%q: %+v became %+v", text, options, again)
		}
	})
}

package apiserver

import (
	"net/url"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	streamproxy "k8s.io/apiserver/pkg/util/proxy"
)

// FuzzExecOptions reads queries as they come from outside: what is understood
// reaches the agent whole.
func FuzzExecOptions(f *testing.F) {
	for _, query := range []string{"", "command=a&command=b%20c&stdin=true", "stdout=1&stderr=false&tty", "stdin=x", "container=a%2Fb&command="} {
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
		var options corev1.PodExecOptions
		var attached corev1.PodAttachOptions
		if err := scheme.Convert(&query, &options, nil); err != nil {
			return
		}
		if err := scheme.Convert(&query, &attached, nil); err != nil || attached.TTY != options.TTY || attached.Stdin != options.Stdin {
			t.Fatalf("%q: %+v, but attaching %+v, %v", text, options, attached, err)
		}
		wish := streamWish{command: options.Command, options: streamproxy.Options{Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, Tty: options.TTY}}
		passed, err := url.ParseQuery(wish.query().Encode())
		if err != nil {
			t.Fatal(err)
		}
		if len(options.Command)+len(passed["command"]) > 0 && !reflect.DeepEqual(passed["command"], options.Command) {
			t.Fatalf("%q: the command %q became %q", text, options.Command, passed["command"])
		}
		for name, is := range map[string]bool{"input": options.Stdin, "output": options.Stdout, "error": options.Stderr, "tty": options.TTY} {
			if (passed.Get(name) == "1") != is {
				t.Fatalf("%q: %s is passed on as %q", text, name, passed.Get(name))
			}
		}
	})
}

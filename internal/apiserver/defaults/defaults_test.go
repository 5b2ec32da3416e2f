package defaults

import (
	"reflect"
	"testing"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// newScheme is the scheme of all kinds of Kubernetes, with the defaults registered.
func newScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := Register(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

// TestGolden reads a manifest in each block of testdata and prints what it becomes.
func TestGolden(t *testing.T) {
	scheme := newScheme(t)
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "default" {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			obj, _, err := codecs.UniversalDeserializer().Decode([]byte(d.Input), nil, nil)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			scheme.Default(obj)
			once := obj.DeepCopyObject()
			scheme.Default(obj)
			if !equality.Semantic.DeepEqual(once, obj) {
				d.Fatalf(t, "a second defaulting changed the object")
			}
			out, err := yaml.Marshal(obj)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return string(out)
		})
	})
}

// TestRegisterNeedsKnownKinds holds that a scheme without the kinds is refused, since it
// would default nothing.
func TestRegisterNeedsKnownKinds(t *testing.T) {
	if err := Register(runtime.NewScheme()); err == nil {
		t.Fatal("an empty scheme was accepted")
	}
}

// TestLists holds that the items of a list are filled as single objects are.
func TestLists(t *testing.T) {
	scheme := newScheme(t)
	list := &corev1.SecretList{Items: []corev1.Secret{{}, {Type: corev1.SecretTypeTLS}}}
	scheme.Default(list)
	if list.Items[0].Type != corev1.SecretTypeOpaque || list.Items[1].Type != corev1.SecretTypeTLS {
		t.Fatalf("got types %q and %q", list.Items[0].Type, list.Items[1].Type)
	}
}

// TestEphemeralContainersAreContainers holds the conversion in podSpec: the compiler checks
// the fields, this checks that none points to a field of its own type.
func TestEphemeralContainersAreContainers(t *testing.T) {
	a, b := reflect.TypeFor[corev1.Container](), reflect.TypeFor[corev1.EphemeralContainerCommon]()
	if !a.ConvertibleTo(b) || a.NumField() != b.NumField() {
		t.Fatalf("%v and %v differ", a, b)
	}
}

func TestPullPolicy(t *testing.T) {
	digest := "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for image, want := range map[string]corev1.PullPolicy{
		"httpd":                            corev1.PullAlways,
		"httpd:latest":                     corev1.PullAlways,
		"httpd:latest" + digest:            corev1.PullAlways,
		"localhost:5000/httpd":             corev1.PullAlways,
		"localhost:5000/team/httpd:latest": corev1.PullAlways,
		"httpd:2.2.31":                     corev1.PullIfNotPresent,
		"httpd" + digest:                   corev1.PullIfNotPresent,
		"httpd:1" + digest:                 corev1.PullIfNotPresent,
		"localhost:5000/httpd:1":           corev1.PullIfNotPresent,
		"":                                 corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("pullPolicy(%q) = %s, want %s", image, got, want)
		}
	}
}

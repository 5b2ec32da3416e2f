package apiserver

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	genericrequest "k8s.io/apiserver/pkg/endpoints/request"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"windlass.dev/windlass/api/v1alpha1"
)

// Who last changed what an object does to pods is kept in its annotation
// windlass.dev/changed-by. It is the server's: what a request says of it is
// ignored, in every kind of write, and nobody's field manager owns it.

// What of an object has an author.

func deploymentAuthored(obj runtime.Object) any { return obj.(*appsv1.Deployment).Spec.Template }

func statefulSetAuthored(obj runtime.Object) any { return obj.(*appsv1.StatefulSet).Spec.Template }

func controllerAuthored(obj runtime.Object) any {
	spec := obj.(*corev1.ReplicationController).Spec
	return []any{spec.Template, spec.Selector}
}

func serviceAuthored(obj runtime.Object) any { return obj.(*corev1.Service).Spec.Selector }

// authorPath is the annotation's place.
var authorPath = fieldpath.MakePathOrDie("metadata", "annotations", v1alpha1.AnnotationChangedBy)

// keepAuthor gives obj the author that old has.
func keepAuthor(obj, old runtime.Object) {
	setAuthor(obj, metaOf(old).GetAnnotations()[v1alpha1.AnnotationChangedBy])
}

// stampAuthor makes the one who sent the request of ctx the author of obj.
func stampAuthor(ctx context.Context, obj runtime.Object) {
	text, err := json.Marshal(authorOf(ctx))
	if err != nil {
		panic("apiserver: three strings have no JSON: " + err.Error())
	}
	setAuthor(obj, string(text))
}

func setAuthor(obj runtime.Object, text string) {
	m := metaOf(obj)
	annotations := m.GetAnnotations()
	switch {
	case annotations[v1alpha1.AnnotationChangedBy] == text && text != "":
	case text == "":
		delete(annotations, v1alpha1.AnnotationChangedBy)
	case annotations == nil:
		m.SetAnnotations(map[string]string{v1alpha1.AnnotationChangedBy: text})
	default:
		annotations[v1alpha1.AnnotationChangedBy] = text
	}
}

// caller is what an author is made of beside the user: the header User-Agent and
// the query of a request.
type caller struct{ agent, query string }

type callerKey struct{}

// rememberCaller is the usual chain of handlers; its innermost one keeps who calls
// in the context.
func rememberCaller(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := caller{agent: r.UserAgent(), query: r.URL.RawQuery}
		api.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, from)))
	})
}

// authorOf returns who sent the request of ctx.
func authorOf(ctx context.Context) v1alpha1.Author {
	var author v1alpha1.Author
	if user, ok := genericrequest.UserFrom(ctx); ok {
		author.User = user.GetName()
	}
	from, _ := ctx.Value(callerKey{}).(caller)
	author.Client = product(from.agent)
	if query, err := url.ParseQuery(from.query); err == nil {
		author.Manager = query.Get("fieldManager")
	}
	if author.Manager == "" { // as the library does
		author.Manager, _, _ = strings.Cut(author.Client, "/")
	}
	if fromLoopback(ctx) && author.Client == loopbackName { // users read it: system:apiserver tells them nothing
		author.User, author.Client = loopbackName, ""
	}
	return author
}

// disownSpec has no field manager own what a part of this process has written
// into the spec of an object that users own, as when it rolls a Deployment back:
// a user who applies the next manifest on the server's side would meet a conflict
// with a manager that no longer wants anything.
func disownSpec(ctx context.Context, obj runtime.Object) {
	if !fromLoopback(ctx) {
		return
	}
	m := metaOf(obj)
	entries := m.GetManagedFields()
	for i := range entries {
		entry := &entries[i]
		if entry.Manager != authorOf(ctx).Manager || entry.Operation != metav1.ManagedFieldsOperationUpdate || entry.FieldsV1 == nil {
			continue
		}
		var owned map[string]json.RawMessage
		if err := json.Unmarshal(entry.FieldsV1.Raw, &owned); err != nil || owned["f:spec"] == nil {
			continue
		}
		delete(owned, "f:spec")
		if raw, err := json.Marshal(owned); err == nil {
			entry.FieldsV1 = &metav1.FieldsV1{Raw: raw}
		}
	}
	m.SetManagedFields(slices.DeleteFunc(entries, func(entry metav1.ManagedFieldsEntry) bool {
		return entry.FieldsV1 != nil && string(entry.FieldsV1.Raw) == "{}"
	}))
}

// product returns the first product token of a User-Agent ("kubectl/v1.37.2"),
// without what cannot be printed, and no longer than the name of a field manager
// may be.
func product(agent string) string {
	token, _, _ := strings.Cut(strings.TrimSpace(agent), " ")
	var out strings.Builder
	for _, r := range strings.ToValidUTF8(token, "") {
		switch {
		case !unicode.IsPrint(r):
		case out.Len()+utf8.RuneLen(r) > metav1validation.FieldManagerMaxLength:
			return out.String()
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

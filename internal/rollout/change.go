package rollout

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"windlass.dev/windlass/api/v1alpha1"
)

// maxValueLength bounds a value in a FieldChange, in bytes.
const maxValueLength = 256

// Changes returns the fields in which two pod templates differ, in the order of
// the API type; none if and only if SameTemplate says so. What comes or goes
// whole, as a container or a probe, is one change. Values of more than 256 bytes
// are cut; where both sides would be cut to the same, their common beginning is
// left out. When from is nil, as it is for a first revision, the images of the
// containers are all that is returned.
func Changes(from, to *corev1.PodTemplateSpec) []v1alpha1.FieldChange {
	var c comparison
	if from == nil {
		for _, container := range to.Spec.Containers {
			c.add("spec.containers["+container.Name+"].image", reflect.Value{}, reflect.ValueOf(container.Image))
		}
		return c.changes
	}
	a, b := withoutHash(from), withoutHash(to)
	c.compare("", reflect.ValueOf(a), reflect.ValueOf(b), place{})
	return c.changes
}

// Differences returns the fields in which two values of one API type, or two
// unstructured objects, differ: as Changes does for pod templates.
func Differences(from, to any) []v1alpha1.FieldChange {
	var c comparison
	c.compare("", reflect.ValueOf(from), reflect.ValueOf(to), place{})
	return c.changes
}

// comparison collects the differences between two values of an API type.
type comparison struct{ changes []v1alpha1.FieldChange }

// place says where a value stands.
type place struct {
	field bool   // in a struct, where the zero value means that it is not set
	key   string // the merge key, when it is a list of structs that has one
}

// leaves are structs that are one value in JSON.
var leaves = []reflect.Type{
	reflect.TypeFor[resource.Quantity](), reflect.TypeFor[intstr.IntOrString](),
	reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime](), reflect.TypeFor[metav1.FieldsV1](),
}

// compare adds the differences between two values of the same type.
func (c *comparison) compare(path string, a, b reflect.Value, at place) {
	switch kind := a.Kind(); {
	case equality.Semantic.DeepEqual(a.Interface(), b.Interface()):
	case kind == reflect.Interface && a.Elem().Kind() == reflect.Map && b.Elem().Kind() == reflect.Map:
		c.entries(path, a.Elem(), b.Elem())
	case kind == reflect.Pointer && !a.IsNil() && !b.IsNil():
		c.compare(path, a.Elem(), b.Elem(), place{})
	case kind == reflect.Pointer:
		c.whole(path, a, b, "")
	case kind == reflect.Struct && !slices.Contains(leaves, a.Type()):
		c.fields(path, a, b)
	case kind == reflect.Map:
		c.entries(path, a, b)
	case kind == reflect.Slice && at.key != "":
		c.elements(path, a, b, at.key)
	case at.field:
		c.add(path, ifSet(a), ifSet(b))
	default:
		c.add(path, a, b)
	}
}

// ifSet returns a field's value unless it is the zero value.
func ifSet(v reflect.Value) reflect.Value {
	if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return reflect.Value{}
	}
	return v
}

func (c *comparison) fields(path string, a, b reflect.Value) {
	for i := range a.NumField() {
		field := a.Type().Field(i)
		c.compare(join(path, jsonName(field)), a.Field(i), b.Field(i), place{field: true, key: field.Tag.Get("patchMergeKey")})
	}
}

func (c *comparison) entries(path string, a, b reflect.Value) {
	keys := map[string]reflect.Value{}
	for _, key := range append(a.MapKeys(), b.MapKeys()...) {
		keys[key.String()] = key
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		from, to := a.MapIndex(keys[name]), b.MapIndex(keys[name])
		if sub := strings.TrimPrefix(path+mapKey(name), "."); from.IsValid() && to.IsValid() {
			c.compare(sub, from, to, place{})
		} else {
			c.add(sub, from, to)
		}
	}
}

// elements compares two lists whose elements have a name in the field key.
func (c *comparison) elements(path string, a, b reflect.Value, key string) {
	from, to := keyed(a, key), keyed(b, key)
	for _, name := range append(from.names, to.missingIn(from)...) {
		x, y := from.values[name], to.values[name]
		if sub := path + "[" + name + "]"; x.IsValid() && y.IsValid() {
			c.compare(sub, x, y, place{})
		} else {
			c.whole(sub, x, y, key)
		}
	}
	was, is := from.both(to), to.both(from)
	if !slices.Equal(was, is) {
		c.add(path, reflect.ValueOf(was), reflect.ValueOf(is))
	}
}

// whole adds something that came or went: a pointer's struct, or the element of a
// list with that key. It is one change, but a struct with one field is that
// field, and a variable is its value.
func (c *comparison) whole(path string, a, b reflect.Value, key string) {
	gone := a.IsValid() && (a.Kind() != reflect.Pointer || !a.IsNil())
	present := reflect.Indirect(b)
	if gone {
		present = reflect.Indirect(a)
	}
	kind := present.Type()
	if kind.Kind() != reflect.Struct || slices.Contains(leaves, kind) || key != "" && kind != reflect.TypeFor[corev1.EnvVar]() {
		c.add(path, a, b)
		return
	}
	empty, bare := reflect.New(kind).Elem(), reflect.New(kind).Elem()
	bare.Set(present)
	if key != "" {
		fieldNamed(bare, key).SetZero()
	}
	switch {
	case setFields(bare) != 1:
		c.add(path, a, b)
	case gone:
		c.fields(path, bare, empty)
	default:
		c.fields(path, empty, bare)
	}
}

// setFields counts the fields of a struct that are set.
func setFields(v reflect.Value) (n int) {
	for i := range v.NumField() {
		if !equality.Semantic.DeepEqual(v.Field(i).Interface(), reflect.Zero(v.Field(i).Type()).Interface()) {
			n++
		}
	}
	return n
}

func (c *comparison) add(path string, a, b reflect.Value) {
	from, to := text(a), text(b)
	if len(from) > maxValueLength && len(to) > maxValueLength && from[:maxValueLength-64] == to[:maxValueLength-64] {
		from, to = afterCommon(from, to)
	}
	c.changes = append(c.changes, v1alpha1.FieldChange{Path: path, From: clip(from, maxValueLength), To: clip(to, maxValueLength)})
}

// text returns a value as JSON, without the quotes if it is a string there that is
// not empty; nothing when there is no value.
func text(v reflect.Value) string {
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return ""
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v.Interface()); err != nil {
		return fmt.Sprint(v.Interface()) // no such value comes from JSON
	}
	out := strings.TrimSuffix(b.String(), "\n")
	if out[0] == '"' && len(out) > 2 {
		return out[1 : len(out)-1]
	}
	return out
}

// afterCommon leaves out what two texts have in common at their beginning.
func afterCommon(a, b string) (string, string) {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	n = max(n-16, 0)
	for n > 0 && !utf8.RuneStart(a[n]) {
		n--
	}
	return "…" + a[n:], "…" + b[n:]
}

// clip cuts a text to a number of bytes, and ends it with … if that leaves
// anything out.
func clip(s string, length int) string {
	if len(s) <= length {
		return s
	}
	end := length - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// list is the elements of a list by their names.
type list struct {
	names  []string
	values map[string]reflect.Value
}

// keyed returns a list by its merge key. A name that was there before gets a
// number.
func keyed(v reflect.Value, key string) list {
	l := list{values: map[string]reflect.Value{}}
	for i := range v.Len() {
		element := v.Index(i)
		first := elementName(element, key)
		name := first
		for n := 2; l.values[name].IsValid(); n++ {
			name = first + "#" + strconv.Itoa(n)
		}
		l.names = append(l.names, name)
		l.values[name] = element
	}
	return l
}

// missingIn returns the names that another list has not.
func (l list) missingIn(other list) []string {
	return slices.DeleteFunc(slices.Clone(l.names), func(name string) bool { return other.values[name].IsValid() })
}

// both returns the names that another list has too.
func (l list) both(other list) []string {
	return slices.DeleteFunc(slices.Clone(l.names), func(name string) bool { return !other.values[name].IsValid() })
}

// elementName is what a user calls an element: a port by its protocol too.
func elementName(element reflect.Value, key string) string {
	if port, ok := element.Interface().(corev1.ContainerPort); ok {
		return fmt.Sprintf("%d/%s", port.ContainerPort, cmp.Or(port.Protocol, corev1.ProtocolTCP))
	}
	return fmt.Sprint(fieldNamed(element, key).Interface())
}

func fieldNamed(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if jsonName(v.Type().Field(i)) == name {
			return v.Field(i)
		}
	}
	panic("rollout: " + v.Type().String() + " has no field " + name) // the merge key of an API type
}

// jsonName is the name of a field in JSON, nothing for one that is inlined.
func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// mapKey is a key as it follows the path of its map.
func mapKey(key string) string {
	if key == "" || strings.ContainsAny(key, "./[] ") {
		return "[" + key + "]"
	}
	return "." + key
}

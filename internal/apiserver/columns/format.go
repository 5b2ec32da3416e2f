package columns

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// What a cell says when there is nothing to say.
const (
	none    = "<none>"
	unknown = "<unknown>"
	unset   = "<unset>"
	pending = "<pending>"
)

var objectDocs = metav1.ObjectMeta{}.SwaggerDoc()

// The two columns that almost every resource has.
var (
	nameColumn = metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: objectDocs["name"]}
	ageColumn  = metav1.TableColumnDefinition{Name: "Age", Type: "string", Description: objectDocs["creationTimestamp"]}
)

// text is a column of words, always shown.
func text(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Description: description}
}

// number is a column of integers, always shown.
func number(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}
}

// wide makes a column one that only -o wide shows.
func wide(column metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	column.Priority = 1
	return column
}

// age is the time since an object's creation, as words.
func age(meta *metav1.ObjectMeta, now time.Time) string {
	return since(meta.CreationTimestamp.Time, now)
}

// since is the time from then to now in one or two units, as "5m" or "2d3h".
func since(then, now time.Time) string {
	if then.IsZero() {
		return unknown
	}
	return duration.HumanDuration(now.Sub(then))
}

// or is value, or instead when there is none.
func or(value, instead string) string {
	if value == "" {
		return instead
	}
	return value
}

// maxListed is how many values of a long list a cell shows.
const maxListed = 3

// firstFew joins the first values, and says how many more there are.
func firstFew(values []string) string {
	if more := len(values) - maxListed; more > 0 {
		return fmt.Sprintf("%s + %d more...", strings.Join(values[:maxListed], ","), more)
	}
	return strings.Join(values, ",")
}

// containerCells are the names and the images of a template's containers.
func containerCells(spec *corev1.PodSpec) (names, images string) {
	var name, image []string
	for _, c := range spec.Containers {
		name, image = append(name, c.Name), append(image, c.Image)
	}
	return strings.Join(name, ","), strings.Join(image, ",")
}

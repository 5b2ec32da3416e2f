package columns

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
)

// For returns the convertor that makes tables of the resource gr. A resource
// without columns of its own gets the library's default, name and creation time.
// Ages are counted to the present.
//
// The rows carry the whole object; the API server's response handler cuts it down
// to what the request's includeObject asks for.
func For(gr schema.GroupResource) rest.TableConvertor {
	return ForAt(gr, time.Now)
}

// ForAt is For with ages counted to the time that now returns, asked once per table.
func ForAt(gr schema.GroupResource, now func() time.Time) rest.TableConvertor {
	return rest.NewDefaultTableConvertor(gr)
}

package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
)

// serviceStore is the main resource of services. The library tells the allocation
// of an update that it succeeded before it writes, and allocates anew when the
// write has lost a race: only when all is over is it clear what to give back.
type serviceStore struct {
	resource
	services services
}

// attempt is what the last attempt at an update changes in the pools: taken is
// what it has taken from them, and spare what is not needed once it is written.
type attempt struct {
	made         bool
	taken, spare holding
}

type attemptKey struct{}

// Update implements rest.Updater.
func (s serviceStore) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, force bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	last := &attempt{}
	obj, created, err := s.resource.Update(context.WithValue(ctx, attemptKey{}, last), name, info, create, update, force, options)
	switch {
	case last.made && err == nil:
		s.services.release(last.spare)
	case last.made:
		s.settle(ctx, name, last)
	}
	return obj, created, err
}

// settle gives back what an attempt has taken that was not written; which is not
// always told by the error: a deadline may have passed meanwhile. What cannot be
// found out stays taken, at worst until the next start.
func (s serviceStore) settle(ctx context.Context, name string, last *attempt) {
	has := holding{}
	found, err := s.resource.Get(context.WithoutCancel(ctx), name, &metav1.GetOptions{})
	switch {
	case err == nil:
		has = s.services.heldBy(found.(*corev1.Service))
	case !apierrors.IsNotFound(err):
		return
	}
	s.services.release(last.taken.without(has))
}

// withdraw undoes the attempt that ctx knows of: it has lost a race.
func (a services) withdraw(ctx context.Context) *attempt {
	last, _ := ctx.Value(attemptKey{}).(*attempt)
	if last != nil && last.made {
		a.release(last.taken)
		*last = attempt{}
	}
	return last
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/environment"
)

// apiSource gives the ConfigMaps and Secrets of a pod's namespace from the API, and
// files of its volumes.
type apiSource struct {
	ctx       context.Context // it lives as long as one act
	reader    client.Reader
	namespace string
	volumes   string // the directory of the pod's volumes; "" for none
}

// ConfigMap implements environment.Source.
func (s apiSource) ConfigMap(name string) (*corev1.ConfigMap, error) {
	cm := &corev1.ConfigMap{}
	return cm, s.get("configmap", name, cm)
}

// Secret implements environment.Source.
func (s apiSource) Secret(name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	return secret, s.get("secret", name, secret)
}

func (s apiSource) get(kind, name string, into client.Object) error {
	err := s.reader.Get(s.ctx, types.NamespacedName{Namespace: s.namespace, Name: name}, into)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%s %q %w", kind, name, environment.ErrNotFound)
	}
	return err
}

// File implements environment.Source.
func (s apiSource) File(volume, path string) ([]byte, error) {
	if s.volumes == "" {
		return nil, errors.New("the volumes of this pod have no files here")
	}
	root, err := os.OpenRoot(filepath.Join(s.volumes, volume))
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", volume, err)
	}
	defer root.Close()
	file, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // and does not wait for a pipe's writer
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("file %q in volume %q %w", path, volume, environment.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", volume, err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%q in volume %q is no file", path, volume)
	}
	content, err := io.ReadAll(io.LimitReader(file, environment.MaxFile+1))
	if err == nil && len(content) > environment.MaxFile {
		err = fmt.Errorf("file %q in volume %q is larger than %d bytes", path, volume, environment.MaxFile)
	}
	return content, err
}

// services lists the Services that a pod may have variables of.
func (a *Agent) services(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	var list corev1.ServiceList
	if links {
		if err := a.cfg.Cache.List(ctx, &list, client.InNamespace(pod.Namespace)); err != nil {
			return nil, fmt.Errorf("list services: %w", err)
		}
	}
	if pod.Namespace != corev1.NamespaceDefault || !links {
		var kubernetes corev1.Service
		err := a.cfg.Cache.Get(ctx, types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: "kubernetes"}, &kubernetes)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("get the kubernetes service: %w", err)
		}
		if err == nil {
			list.Items = append(list.Items, kubernetes)
		}
	}
	return environment.Services(list.Items, pod.Namespace, links), nil
}

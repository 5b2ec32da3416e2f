package volume

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/environment"
)

// file is one file of a volume made from API objects.
type file struct {
	content []byte
	mode    int32
	owner   *int64 // nil: root
}

// projector collects the files of a configMap, secret, downwardAPI or projected
// volume, by their path in it.
type projector struct {
	dir   string // of the volume, with the files of the last time; "" for none
	pod   *corev1.Pod
	from  Sources
	files map[string]file
	due   time.Time // when a token has to be renewed
}

func newProjector(dir string, pod *corev1.Pod, from Sources) *projector {
	return &projector{dir: dir, pod: pod, from: from, files: map[string]file{}}
}

// project makes a volume of objects of the API, or brings it up to date.
func project(dir string, v *corev1.Volume, pod *corev1.Pod, from Sources) (time.Time, error) {
	p := newProjector(dir, pod, from)
	if err := p.volume(v); err != nil {
		return time.Time{}, err
	}
	return p.due, write(dir, p.files, pod)
}

const defaultMode = int32(0o644)

func modeOr(mode *int32, otherwise int32) int32 {
	if mode != nil {
		return *mode
	}
	return otherwise
}

func (p *projector) volume(v *corev1.Volume) error {
	switch {
	case v.ConfigMap != nil:
		return p.configMap(v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional, modeOr(v.ConfigMap.DefaultMode, defaultMode))
	case v.Secret != nil:
		return p.secret(v.Secret.SecretName, v.Secret.Items, v.Secret.Optional, modeOr(v.Secret.DefaultMode, defaultMode))
	case v.DownwardAPI != nil:
		return p.downward(v.DownwardAPI.Items, modeOr(v.DownwardAPI.DefaultMode, defaultMode))
	case v.Projected != nil:
		return p.projected(v.Projected)
	}
	return errors.New("volumes of this kind are not supported on this node (supported: configMap, downwardAPI, emptyDir, ephemeral, hostPath, image, persistentVolumeClaim, projected, secret)")
}

func (p *projector) projected(v *corev1.ProjectedVolumeSource) error {
	mode := modeOr(v.DefaultMode, defaultMode)
	for i := range v.Sources {
		var err error
		switch s := &v.Sources[i]; {
		case s.ConfigMap != nil:
			err = p.configMap(s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, mode)
		case s.Secret != nil:
			err = p.secret(s.Secret.Name, s.Secret.Items, s.Secret.Optional, mode)
		case s.DownwardAPI != nil:
			err = p.downward(s.DownwardAPI.Items, mode)
		case s.ServiceAccountToken != nil:
			err = p.token(s.ServiceAccountToken, mode)
		case s.ClusterTrustBundle != nil:
			err = errors.New("clusterTrustBundle is not supported on this node: project a configMap with the certificates")
		default:
			err = errors.New("a projected source of this kind is not supported on this node (supported: configMap, downwardAPI, secret, serviceAccountToken)")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *projector) configMap(name string, items []corev1.KeyToPath, optional *bool, mode int32) error {
	cm, err := p.from.Objects.ConfigMap(name)
	if skip(err, optional) {
		return nil
	}
	if err != nil {
		return err
	}
	data := map[string][]byte{}
	for key, value := range cm.Data {
		data[key] = []byte(value)
	}
	for key, value := range cm.BinaryData {
		data[key] = value
	}
	return p.keys("configmap references non-existent config key", data, items, optional, mode)
}

func (p *projector) secret(name string, items []corev1.KeyToPath, optional *bool, mode int32) error {
	secret, err := p.from.Objects.Secret(name)
	if skip(err, optional) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.keys("references non-existent secret key", secret.Data, items, optional, mode)
}

func skip(err error, optional *bool) bool {
	return errors.Is(err, environment.ErrNotFound) && optional != nil && *optional
}

func (p *projector) keys(missing string, data map[string][]byte, items []corev1.KeyToPath, optional *bool, mode int32) error {
	if len(items) == 0 {
		for key, content := range data {
			if err := p.add(key, content, mode); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		content, ok := data[item.Key]
		if !ok && optional != nil && *optional {
			continue
		}
		if !ok {
			return fmt.Errorf("%s: %s", missing, item.Key)
		}
		if err := p.add(item.Path, content, modeOr(item.Mode, mode)); err != nil {
			return err
		}
	}
	return nil
}

func (p *projector) downward(items []corev1.DownwardAPIVolumeFile, mode int32) error {
	for i := range items {
		var value string
		var err error
		switch item := &items[i]; {
		case item.FieldRef != nil:
			value, err = environment.Field(p.pod, item.FieldRef.FieldPath, p.from.Facts)
		case item.ResourceFieldRef != nil:
			value, err = environment.Resource(p.pod, nil, item.ResourceFieldRef, p.from.Facts)
		}
		if err != nil {
			return err
		}
		if err := p.add(items[i].Path, []byte(value), modeOr(items[i].Mode, mode)); err != nil {
			return err
		}
	}
	return nil
}

// add takes a file in. Its path stays inside the volume and out of the names
// that atomic updates use.
func (p *projector) add(name string, content []byte, mode int32) error {
	clean := path.Clean(name)
	if !filepath.IsLocal(clean) || clean == "." || strings.HasPrefix(clean, "..") {
		return fmt.Errorf("invalid path %q: it must be relative and stay in the volume", name)
	}
	p.files[clean] = file{content: content, mode: mode}
	return nil
}

package eviction

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal names one thing that a node has only so much of.
type Signal string

// The signals.
const (
	MemoryAvailable  Signal = "memory.available"
	NodeFSAvailable  Signal = "nodefs.available"  // of the file system with the data directory
	ImageFSAvailable Signal = "imagefs.available" // of the one with the images
	PIDAvailable     Signal = "pid.available"

	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
)

var signals = []Signal{MemoryAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree, PIDAvailable}

// Default are the thresholds of a node that has none of its own, those of Kubernetes.
const Default = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"

// The resources that evictions give back and that are none of the API's.
const (
	pids   corev1.ResourceName = "pids"
	inodes corev1.ResourceName = "inodes"
)

// condition is what a node is under when a signal's threshold is met.
func (s Signal) condition() corev1.NodeConditionType {
	switch s {
	case MemoryAvailable:
		return corev1.NodeMemoryPressure
	case PIDAvailable:
		return corev1.NodePIDPressure
	}
	return corev1.NodeDiskPressure
}

// reclaims is the resource that an eviction gives back.
func (s Signal) reclaims() corev1.ResourceName {
	switch s {
	case MemoryAvailable:
		return corev1.ResourceMemory
	case PIDAvailable:
		return pids
	case NodeFSInodesFree, ImageFSInodesFree:
		return inodes
	}
	return corev1.ResourceEphemeralStorage
}

// Threshold is how little of something there may be before pods have to go: a
// quantity, or a part of the capacity.
type Threshold struct {
	Signal   Signal
	Quantity int64         // bytes, inodes or processes
	Part     float64       // from 0 to 1; 0 means that Quantity is given
	Grace    time.Duration // how long there may be too little; 0 is no moment
}

// of is the threshold as a quantity.
func (t Threshold) of(capacity int64) int64 {
	if t.Part > 0 {
		return int64(t.Part * float64(capacity))
	}
	return t.Quantity
}

// Parse reads thresholds as kubelets' --eviction-hard has them:
// memory.available<100Mi,nodefs.available<10%. An empty text has none.
func Parse(text string) ([]Threshold, error) {
	var list []Threshold
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		name, value, found := strings.Cut(word, "<")
		t := Threshold{Signal: Signal(name)}
		if !found || !slices.Contains(signals, t.Signal) {
			return nil, fmt.Errorf("%.100q is no threshold: give memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree or pid.available, and how little of it is too little, such as memory.available<100Mi or nodefs.available<10%%", word)
		}
		if err := t.read(value); err != nil {
			return nil, fmt.Errorf("%.100q: %w, such as 100Mi or 10%%", word, err)
		}
		list = append(list, t)
	}
	return list, nil
}

func (t *Threshold) read(value string) error {
	if percent, ok := strings.CutSuffix(value, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil || math.IsNaN(n) || n <= 0 || n > 100 {
			return errors.New("give a part above 0% and up to 100%")
		}
		t.Part = n / 100
		return nil
	}
	quantity, err := resource.ParseQuantity(value)
	if err != nil || quantity.Sign() < 0 {
		return errors.New("give a quantity that is not negative")
	}
	t.Quantity = quantity.Value()
	return nil
}

// WithGrace reads how long each of some thresholds may be met, as kubelets'
// --eviction-soft-grace-period has it (memory.available=1m30s,nodefs.available=2m),
// and returns the thresholds with it. Each has to have one.
func WithGrace(list []Threshold, text string) ([]Threshold, error) {
	graces := map[Signal]time.Duration{}
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		name, value, _ := strings.Cut(word, "=")
		grace, err := time.ParseDuration(value)
		if err != nil || grace <= 0 || !slices.Contains(signals, Signal(name)) {
			return nil, fmt.Errorf("%.100q: give a signal and how long it may be below its threshold, such as memory.available=1m30s", word)
		}
		graces[Signal(name)] = grace
	}
	soft := slices.Clone(list)
	for i := range soft {
		if soft[i].Grace = graces[soft[i].Signal]; soft[i].Grace == 0 {
			return nil, fmt.Errorf("%s has no grace period: give one, such as %s=1m30s", soft[i].Signal, soft[i].Signal)
		}
	}
	return soft, nil
}

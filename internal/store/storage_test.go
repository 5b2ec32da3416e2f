package store

import (
	"context"
	"errors"
	"testing"

	"k8s.io/apiserver/pkg/storage"
)

// asked is a storage at version 7 that counts how often it is asked for a progress notice.
type asked struct {
	storage.Interface
	err   error
	times int
}

func (a *asked) GetCurrentResourceVersion(context.Context) (uint64, error) { return 7, a.err }

func (a *asked) RequestWatchProgress(context.Context) error {
	a.times++
	return errors.New("it is asked for again")
}

// TestProgressIsAskedFor: whoever asks for the current version wants to see it soon.
func TestProgressIsAskedFor(t *testing.T) {
	a := &asked{}
	if version, err := (prompt{a}).GetCurrentResourceVersion(t.Context()); version != 7 || err != nil || a.times != 1 {
		t.Errorf("version %d, %v, and a notice was asked for %d times", version, err, a.times)
	}
	a.err = errors.New("down")
	if _, err := (prompt{a}).GetCurrentResourceVersion(t.Context()); !errors.Is(err, a.err) || a.times != 1 {
		t.Errorf("%v, and a notice was asked for %d times", err, a.times)
	}
}

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/ioutils"
)

// recordFiles are what the storage library knows its images and layers by, below
// its directory. Without them nothing in it can be used.
var recordFiles = []string{"overlay-images/images.json", "overlay-layers/layers.json"}

// keptDir has copies of the records, from after the last change.
const keptDir = "records"

func imagesDir(dataDir string) string { return filepath.Join(dataDir, "images") }

func keptCopy(dir, name string) string { return filepath.Join(dir, keptDir, filepath.Base(name)) }

// keepRecords copies the records as they are, to go back to if the disk damages them.
func (s *Store) keepRecords() error {
	dir := imagesDir(s.dataDir)
	if err := os.MkdirAll(filepath.Join(dir, keptDir), 0o700); err != nil {
		return err
	}
	for _, name := range recordFiles {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = checkRecords(data)
		}
		if err == nil {
			err = ioutils.AtomicWriteFile(keptCopy(dir, name), data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("keep a copy of %s: %w", name, err)
		}
	}
	return nil
}

// checkRecords tells whether a file of records can be read: a list of objects
// that have an ID.
func checkRecords(data []byte) error {
	var records []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &records); err != nil {
		return err
	}
	for i, r := range records {
		if r.ID == "" {
			return fmt.Errorf("record %d has no id", i)
		}
	}
	return nil
}

// mendRecords puts the kept copy in the place of records that are damaged or
// gone. The damaged file stays beside it. An error says that there is no copy,
// and what to do.
func mendRecords(dataDir string, log *slog.Logger) error {
	dir := imagesDir(dataDir)
	for _, name := range recordFiles {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		damage := err
		if err == nil {
			damage = checkRecords(data)
		}
		if damage == nil {
			continue
		}
		kept, err := os.ReadFile(keptCopy(dir, name))
		if err == nil {
			err = checkRecords(kept)
		}
		switch {
		case errors.Is(damage, os.ErrNotExist) && errors.Is(err, os.ErrNotExist): // a new store
			continue
		case err != nil:
			return fmt.Errorf("%s is damaged (%w) and so is its copy (%w): end the containers (windlass reset), remove %s, start again, and load or pull the images anew", path, damage, err, dir)
		}
		log.Error("The records of images are damaged: going back to their copy", "file", path, "err", damage)
		if !errors.Is(damage, os.ErrNotExist) {
			if err := os.Rename(path, path+".damaged"); err != nil {
				return err
			}
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), ioutils.AtomicWriteFile(path, kept, 0o600)); err != nil {
			return fmt.Errorf("mend %s: %w", path, err)
		}
	}
	return nil
}

// dropDamaged deletes images that are not whole, so that they are pulled or
// loaded again where they are needed. It is called before anybody uses the store.
func (s *Store) dropDamaged() error {
	images, err := s.storage.Images()
	if err != nil {
		return err
	}
	for i := range images {
		damage := s.whole(&images[i])
		if damage == nil {
			continue
		}
		s.log.Error("An image is damaged: it is deleted, load or pull it again", "image", images[i].ID, "names", images[i].Names, "err", damage)
		if _, err := s.storage.DeleteImage(images[i].ID, true); err != nil && !errors.Is(err, storage.ErrImageUnknown) {
			return fmt.Errorf("delete damaged image %s: %w", images[i].ID, err)
		}
	}
	return nil
}

// whole tells what is missing of an image, if anything is.
func (s *Store) whole(stored *storage.Image) error {
	img, err := s.describe(stored)
	if err != nil {
		return err
	}
	for _, layer := range img.Layers {
		if _, err := os.Stat(layer); err != nil {
			return err
		}
	}
	return nil
}

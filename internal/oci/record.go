package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"windlass.dev/windlass/internal/agent"
)

// phaseCreating is the phase of a record whose Start has not finished. It never
// leaves this package.
const phaseCreating agent.ContainerPhase = "Creating"

// lostExitCode is the exit code of a container whose end nobody saw: the machine
// restarted, or conmon died before it.
const lostExitCode = 255

// record is what is kept on disk about a container, as container.json.
type record struct {
	agent.Container

	// BootID and StartTicks tell this process from a later one with the same
	// pid: the boot it ran in, and its start in clock ticks since that boot.
	BootID     string
	StartTicks uint64

	Class     string // where the pod's control group is, by its quality of service
	SharedPID bool   `json:",omitempty"` // its processes are not all that its process namespace has
	SharedIPC bool   `json:",omitempty"` // those of its pod join its namespaces
}

// validID is what may name a container or a pod: it becomes a file name, a
// cgroup name and an argument.
var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// checkIDs refuses names that could not be file names.
func checkIDs(id, podUID string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("container id %q: must match %s", id, validID)
	}
	if !validID.MatchString(podUID) {
		return fmt.Errorf("pod uid %q: must match %s", podUID, validID)
	}
	return nil
}

// parseRecord reads container.json of the container id.
func parseRecord(id string, data []byte) (record, error) {
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return record{}, fmt.Errorf("record of container %s: %w", id, err)
	}
	if rec.ID != id {
		return record{}, fmt.Errorf("record of container %s names container %q", id, rec.ID)
	}
	if err := checkIDs(rec.ID, rec.PodUID); err != nil {
		return record{}, fmt.Errorf("record of container %s: %w", id, err)
	}
	if rec.Class != "" && rec.Class != burstable && rec.Class != bestEffort {
		return record{}, fmt.Errorf("record of container %s has class %q", id, rec.Class)
	}
	switch rec.Phase {
	case phaseCreating, agent.ContainerRunning, agent.ContainerExited:
	default:
		return record{}, fmt.Errorf("record of container %s has phase %q", id, rec.Phase)
	}
	return rec, nil
}

// readRecord reads the record of the container whose directory is dir.
func readRecord(dir string) (record, error) {
	data, err := os.ReadFile(filepath.Join(dir, "container.json"))
	if err != nil {
		return record{}, err
	}
	return parseRecord(filepath.Base(dir), data)
}

// writeRecord puts the record in place at once.
func writeRecord(dir string, rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, "container.json"), data)
}

// replaceFile writes a file so that readers see either the old or the new content.
func replaceFile(path string, data []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return errors.Join(err, removeIfThere(next))
	}
	return os.Rename(next, path)
}

// removeIfThere removes a file that may be absent.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// parseExitCode reads an exit file of conmon: the code in decimal.
func parseExitCode(data []byte) (int, error) {
	code, err := strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 8)
	if err != nil {
		return 0, fmt.Errorf("exit file: %w", err)
	}
	return int(code), nil
}

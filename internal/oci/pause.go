package oci

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"windlass.dev/windlass/internal/agent"
)

// A pod whose containers share their processes has one container more: its only
// process is the first of the pod's process namespace, which reaps what the others
// leave behind and does nothing else. See docs/adr/0006-a-pause-of-our-own.md.
const pausePrefix = "pause-"

func isPause(id string) bool { return strings.HasPrefix(id, pausePrefix) }

// pauseLayer makes the image of the pause container, once, and returns its layer.
func (r *Runtime) pauseLayer() (string, error) {
	dir := filepath.Join(r.dataDir, "pause")
	program, err := pauseProgram(runtime.GOARCH)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pause")
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, program) {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := replaceFile(path, program); err != nil {
		return "", err
	}
	return dir, os.Chmod(path, 0o755)
}

// startPause starts the pause container of a pod, unless it runs, and returns the
// pid of its process. What its pod shares is locked.
func (r *Runtime) startPause(ctx context.Context, of *agent.ContainerSpec) (int, error) {
	id := pausePrefix + of.PodUID
	if c := r.find(id); c != nil {
		r.settle(c)
		pid, running := c.rec.Pid, c.rec.Phase == agent.ContainerRunning
		c.mu.Unlock()
		if running {
			return pid, nil
		}
		if err := r.Remove(ctx, id); err != nil {
			return 0, err
		}
	}
	layer, err := r.pauseLayer()
	if err != nil {
		return 0, fmt.Errorf("the pod's first process: %w", err)
	}
	c, err := r.Start(ctx, agent.ContainerSpec{
		ID: id, PodUID: of.PodUID, Pod: of.Pod, Name: "pause", Layers: []string{layer}, Hostname: of.Hostname, NetNS: of.NetNS, Users: of.Users,
		LogPath: filepath.Join(r.dataDir, "run", "pause.log"), Args: []string{"/pause"}, User: "65535:65535",
		Resources: agent.Resources{CPUShares: 2, OOMScoreAdj: -998},
		Security:  agent.Security{ReadOnlyRootFilesystem: true, NoNewPrivileges: true, DropCapabilities: []string{"ALL"}},
	})
	if err == nil && c.Phase != agent.ContainerRunning {
		err = fmt.Errorf("it ended at once with code %d", c.ExitCode)
	}
	if err != nil {
		return 0, fmt.Errorf("the pod's first process: %w", err)
	}
	return c.Pid, nil
}

// removePause removes the pause container of a pod that has no other container,
// but for one that is about to be forgotten.
func (r *Runtime) removePause(ctx context.Context, podUID, except string) error {
	id := pausePrefix + podUID
	r.mu.Lock()
	_, is := r.containers[id]
	r.mu.Unlock()
	if !is {
		return nil
	}
	share := r.share(podUID)
	share.mu.Lock()
	defer share.mu.Unlock()
	r.mu.Lock()
	for other, c := range r.containers {
		is = is && (c.podUID != podUID || other == id || other == except)
	}
	r.mu.Unlock()
	if !is {
		return nil
	}
	return r.Remove(ctx, id)
}

// pauseProgram returns an executable for Linux (ELF, 64 bits) of one segment: it
// ignores SIGCHLD, by which the kernel reaps for it, and then waits for ever. As
// the first process of its namespace it gets no signal but SIGKILL from outside.
func pauseProgram(arch string) ([]byte, error) {
	var machine uint16
	var code []byte
	switch arch {
	case "amd64":
		machine, code = 62, []byte{
			0xb8, 13, 0, 0, 0, // mov eax, rt_sigaction
			0xbf, 17, 0, 0, 0, // mov edi, SIGCHLD
			0x48, 0x8d, 0x35, 23, 0, 0, 0, // lea rsi, [rip+23]: the action
			0x31, 0xd2, // xor edx, edx
			0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8: the size of a signal mask
			0x0f, 0x05, // syscall
			0xb8, 34, 0, 0, 0, // mov eax, pause
			0x0f, 0x05, // syscall
			0xeb, 0xf7, // jmp 9 bytes back
			0x90, 0x90, 0x90, 0x90, // nop, for alignment
		}
	case "arm64":
		machine = 183
		for _, instruction := range []uint32{
			0xd2800000 | 134<<5 | 8, // mov x8, rt_sigaction
			0xd2800000 | 17<<5,      // mov x0, SIGCHLD
			0x10000000 | 12<<5 | 1,  // adr x1, 12 instructions on: the action
			0xd2800000 | 2,          // mov x2, 0
			0xd2800000 | 8<<5 | 3,   // mov x3, 8
			0xd4000001,              // svc
			0xd2800000 | 73<<5 | 8,  // mov x8, ppoll
			0xd2800000,              // mov x0, 0
			0xd2800000 | 1,          // mov x1, 0
			0xd2800000 | 2,          // mov x2, 0
			0xd2800000 | 3,          // mov x3, 0
			0xd4000001,              // svc
			0x14000000 | 0x3fffffa,  // b 6 instructions back
			0xd503201f,              // nop, for alignment
		} {
			code = binary.LittleEndian.AppendUint32(code, instruction)
		}
	default:
		return nil, errors.New("shareProcessNamespace is not supported on " + arch)
	}
	// The action: ignore, do not wait (SA_NOCLDWAIT), no restorer, no mask.
	for _, word := range []uint64{1, 2, 0, 0} {
		code = binary.LittleEndian.AppendUint64(code, word)
	}
	const base, headers = 0x400000, 64 + 56
	var b bytes.Buffer
	for _, field := range []any{
		[]byte("\x7fELF\x02\x01\x01"), make([]byte, 9),
		uint16(2), machine, uint32(1), uint64(base + headers), // executable, entry
		uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), // load, readable and executable
		uint64(headers + len(code)), uint64(headers + len(code)), uint64(0x10000),
		code,
	} {
		if err := binary.Write(&b, binary.LittleEndian, field); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

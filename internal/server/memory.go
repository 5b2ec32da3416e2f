package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// leanMemory trades a little CPU for a heap that stays small while objects
// churn. GOGC in the environment overrides it.
func leanMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// shedEvery is how often a node gives back the pages of its program. Those that it
// needs are mapped again in milliseconds, from the page cache.
const shedEvery = time.Minute

// keepLean gives back to the system, now and again until ctx ends, the pages of
// the program itself, most of which a node runs once if at all: a start, a pull, a
// crowd of pods that begin.
func keepLean(ctx context.Context, log *slog.Logger) {
	for {
		if err := shedProgram(); err != nil {
			log.Warn("more memory stays in use than is needed", "error", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(shedEvery):
		}
	}
}

// shedProgram unmaps the program's pages. What is needed again the kernel maps again.
func shedProgram() error {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		start, end, ok := programPages(line, own)
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("let go of the program's pages: %w", errno)
		}
	}
	return nil
}

// programPages reads a line of proc(5) maps and returns the addresses of pages of
// the program at path that nothing has written to nor can.
func programPages(line, path string) (start, end uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 6 || fields[5] != path || len(fields[1]) != 4 || fields[1][0] != 'r' || fields[1][1] != '-' {
		return 0, 0, false
	}
	_, err := fmt.Sscanf(fields[0], "%x-%x", &start, &end)
	return start, end, err == nil && start < end && end-start < 1<<(8*unsafe.Sizeof(start)-1)
}

package server

import (
	"os"
	"runtime/debug"
)

// leanMemory trades a little CPU for a heap that stays small while objects
// churn. GOGC in the environment overrides it.
func leanMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// shedStart gives back to the system what only the start needed.
func shedStart() { debug.FreeOSMemory() }

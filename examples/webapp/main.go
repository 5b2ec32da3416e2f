// Command webapp is the small web server that the demo and the tests roll from
// one version to the next. It says which version answers and from which pod.
//
// It is no help to whoever rolls it: it exits at once on SIGTERM, in the middle
// of whatever it does. Its behaviour is set by the environment:
//
//	VERSION   what it calls itself
//	PORT      where it listens (default 80)
//	STARTUP   how long it takes before it listens (a Go duration)
//	SLOW      how long it takes to answer (a Go duration)
//	FAIL      "exit" to end at once with code 1, "unready" to answer 503 on /ready
//	DATA      a file that keeps what is posted to /, and is told with each answer
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		log.Printf("exit on %v", <-signals)
		os.Exit(0)
	}()
	if os.Getenv("FAIL") == "exit" {
		log.Fatal("told to fail")
	}
	time.Sleep(duration("STARTUP"))

	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	log.Printf("version %s listens on port %s", os.Getenv("VERSION"), port)
	log.Fatal(http.ListenAndServe(":"+port, handler(os.Getenv("VERSION"), duration("SLOW"), os.Getenv("FAIL") == "unready")))
}

// handler answers / with the version and the pod's name, and /ready.
func handler(version string, slow time.Duration, unready bool) http.Handler {
	host, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(slow)
		if r.Method == http.MethodPost && os.Getenv("DATA") != "" {
			store(w, r)
			return
		}
		fmt.Fprintf(w, "httpd %s on %s\n", version, host)
		if kept, err := os.ReadFile(os.Getenv("DATA")); err == nil {
			fmt.Fprintf(w, "Data stored on this pod: %s\n", kept)
		}
	})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if unready {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// store keeps the body of a request in the file that DATA names.
func store(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err == nil {
		err = os.WriteFile(os.Getenv("DATA"), body, 0o600)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "Data stored")
}

// duration reads a Go duration from the environment; unset is zero.
func duration(name string) time.Duration {
	text := os.Getenv(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	return d
}

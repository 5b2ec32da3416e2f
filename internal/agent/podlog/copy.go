package podlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Options choose what Copy writes. The zero value is the whole log.
type Options struct {
	Follow     bool
	Timestamps bool      // each line begins with its time
	Since      time.Time // lines before it are left out
	Tail       int64     // only the last so many lines; with HasTail
	HasTail    bool
	Limit      int64 // bytes at most; with HasLimit
	HasLimit   bool
}

// errLimit ends a copy that has given out as much as was asked for.
var errLimit = errors.New("byte limit reached")

// Flusher is a writer that holds back what it is given until it is flushed. Copy
// flushes one whenever it has come to the end of a log that it follows.
type Flusher interface{ Flush() error }

// Copy writes the log file at path to w. With Follow it goes on until ended is
// closed (and then to the end of the file) or ctx ends. The error is the file's,
// the writer's, or nil.
func Copy(ctx context.Context, w io.Writer, path string, options Options, ended <-chan struct{}) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if options.HasTail {
		if err := seekTail(f, options.Tail); err != nil {
			return fmt.Errorf("find the last %d lines of %s: %w", options.Tail, path, err)
		}
	}
	c := copier{w: w, options: options, left: options.Limit, in: bufio.NewReaderSize(f, 64<<10)}
	if options.Follow {
		err = c.follow(ctx, path, ended)
	} else {
		err = c.drain()
	}
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// copier turns records into what the reader of a log wants to see.
type copier struct {
	w       io.Writer
	options Options
	left    int64
	in      *bufio.Reader
	pending []byte // a record whose newline is not written yet
	joined  bool   // the last record written was partial: no new line has begun
}

// drain copies every whole record that is there now.
func (c *copier) drain() error {
	for {
		part, err := c.in.ReadSlice('\n')
		switch {
		case err == nil && len(c.pending) == 0:
			if err := c.write(part); err != nil {
				return err
			}
		case err == nil:
			record := append(c.pending, part...)
			c.pending = nil
			if err := c.write(record); err != nil {
				return err
			}
		case errors.Is(err, bufio.ErrBufferFull) || errors.Is(err, io.EOF):
			c.pending = append(c.pending, part...)
			if errors.Is(err, io.EOF) {
				return nil
			}
		default:
			return err
		}
	}
}

func (c *copier) follow(ctx context.Context, path string, ended <-chan struct{}) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch log files: %w", err)
	}
	defer watcher.Close()
	if err := watcher.Add(path); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	for {
		if err := c.drain(); err != nil {
			return err
		}
		if f, ok := c.w.(Flusher); ok {
			if err := f.Flush(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return c.drain()
		case err := <-watcher.Errors:
			return fmt.Errorf("watch %s: %w", path, err)
		case change := <-watcher.Events:
			if change.Has(fsnotify.Remove) {
				return c.drain()
			}
		}
	}
}

// write gives one record out. Records not in the format are passed by.
func (c *copier) write(record []byte) error {
	line, err := ParseLine(record)
	if err != nil || line.Time.Before(c.options.Since) {
		return nil
	}
	out := line.Text
	if c.options.Timestamps && !c.joined {
		out = append([]byte(line.Time.Format(time.RFC3339Nano)+" "), out...)
	}
	if !line.Partial {
		out = append(bytes.Clone(out), '\n')
	}
	c.joined = line.Partial
	if c.options.HasLimit {
		out = out[:min(int64(len(out)), c.left)]
		c.left -= int64(len(out))
	}
	if _, err := c.w.Write(out); err != nil {
		return err
	}
	if c.options.HasLimit && c.left == 0 {
		return errLimit
	}
	return nil
}

// seekTail moves f to where its last n whole lines begin. The parts of a line
// that was written in pieces count as one.
func seekTail(f *os.File, n int64) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if n <= 0 {
		return nil
	}
	const block = 64 << 10
	var tail []byte // from at to the end
	at := end
	for at > 0 {
		size := min(int64(block), at)
		at -= size
		part := make([]byte, size, size+int64(len(tail)))
		if _, err := f.ReadAt(part, at); err != nil {
			return err
		}
		tail = append(part, tail...)
		if offset, ok := lastLines(tail, n, at == 0); ok {
			_, err := f.Seek(at+int64(offset), io.SeekStart)
			return err
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// lastLines returns where the last n lines begin in data, which ends with the
// file, and whether it holds that many and what is before them shows it.
func lastLines(data []byte, n int64, whole bool) (offset int, ok bool) {
	end := bytes.LastIndexByte(data, '\n') // what comes after is not written whole
	if end < 0 {
		return 0, whole
	}
	var lines int64
	for end >= 0 {
		begin := bytes.LastIndexByte(data[:end], '\n') + 1
		if begin == 0 && !whole {
			return 0, false
		}
		if line, err := ParseLine(data[begin:end]); err == nil && !line.Partial {
			if lines++; lines > n {
				return end + 1, true
			}
		}
		end = begin - 1
	}
	return 0, whole
}

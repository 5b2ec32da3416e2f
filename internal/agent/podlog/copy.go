package podlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// Copy writes the log at path to w, from the oldest of its files on. With Follow it
// goes on until ended is closed (and then to the end of the log) or ctx ends, across
// rotations without a gap. The error is the files', the writer's, or nil.
func Copy(ctx context.Context, w io.Writer, path string, options Options, ended <-chan struct{}) error {
	c := copier{w: w, path: path, options: options, left: options.Limit}
	defer c.close()
	var wake *fsnotify.Watcher
	if options.Follow { // before the first look
		var err error
		if wake, err = watch(path); err != nil {
			return err
		}
		defer wake.Close()
	}
	files, err := openFiles(path)
	if err != nil {
		return err
	}
	c.files = files
	if options.HasTail {
		if c.files, err = seekTail(files, options.Tail); err != nil {
			return fmt.Errorf("find the last %d lines of %s: %w", options.Tail, path, err)
		}
	}
	c.in = bufio.NewReaderSize(c.files[0], 64<<10)
	if options.Follow {
		err = c.follow(ctx, wake, ended)
	} else {
		err = c.drainAll()
	}
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// copier turns records into what the reader of a log wants to see.
type copier struct {
	w       io.Writer
	path    string
	options Options
	left    int64
	files   []*os.File // the one being read and those after it
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

// drainAll copies every whole record of every file that is there now.
func (c *copier) drainAll() error {
	for {
		if err := c.drain(); err != nil || len(c.files) == 1 {
			return err
		}
		c.next()
	}
}

// next goes on with the file after the one that has been read.
func (c *copier) next() {
	_ = c.files[0].Close()
	c.files, c.pending = c.files[1:], nil
	c.in.Reset(c.files[0])
}

func (c *copier) close() { closeFiles(c.files) }

// catchUp copies everything that is there, files that have come since included.
// It reports false when the log has been deleted.
func (c *copier) catchUp() (there bool, err error) {
	for {
		if err := c.drainAll(); err != nil {
			return true, err
		}
		if there, err := c.findNext(); err != nil || !there || len(c.files) == 1 {
			return there, err
		}
		// What was read last is written no more: its end is the end now.
	}
}

// findNext opens the files after the one that has been read. It reports false
// when the log has been deleted.
func (c *copier) findNext() (there bool, err error) {
	own, err := c.files[0].Stat()
	if err != nil {
		return true, err
	}
	if newest, err := os.Stat(c.path); err == nil && os.SameFile(newest, own) {
		return true, nil
	}
	files, err := openFiles(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	for i, f := range files { // if it is not among them, it is older than all
		if info, err := f.Stat(); err == nil && os.SameFile(info, own) {
			closeFiles(files[:i+1])
			files = files[i+1:]
			break
		}
	}
	c.files = append(c.files, files...)
	return true, nil
}

// watch tells of changes of the files of a log.
func watch(path string) (*fsnotify.Watcher, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch log files: %w", err)
	}
	if err := watcher.Add(filepath.Dir(path)); err != nil {
		_ = watcher.Close()
		return nil, fmt.Errorf("watch %s: %w", filepath.Dir(path), err)
	}
	return watcher, nil
}

func (c *copier) follow(ctx context.Context, wake *fsnotify.Watcher, ended <-chan struct{}) error {
	for {
		there, err := c.catchUp()
		if err != nil || !there {
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
			_, err := c.catchUp()
			return err
		case err := <-wake.Errors:
			// Its queue overflowed: what it would have told is looked at now.
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch %s: %w", c.path, err)
			}
		case <-wake.Events:
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

// seekTail moves to where the last n whole lines of a log's files begin, and
// returns the file in which that is and those after it. The parts of a line that
// was written in pieces, into two files perhaps, count as one.
func seekTail(files []*os.File, n int64) ([]*os.File, error) {
	last := len(files) - 1
	if n <= 0 {
		_, err := files[last].Seek(0, io.SeekEnd)
		closeFiles(files[:last])
		return files[last:], err
	}
	for i := last; ; i-- {
		found, all, err := seekLines(files[i], n)
		if err != nil || !all || i == 0 {
			closeFiles(files[:i])
			return files[i:], err
		}
		n -= found
	}
}

// seekLines moves f to where its last n whole lines begin. It returns how many it
// found, and whether the line before them may have begun in the file before.
func seekLines(f *os.File, n int64) (found int64, all bool, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, err
	}
	const block = 64 << 10
	var tail []byte // from at to the end
	at := end
	for at > 0 {
		size := min(int64(block), at)
		at -= size
		part := make([]byte, size, size+int64(len(tail)))
		if _, err := f.ReadAt(part, at); err != nil {
			return 0, false, err
		}
		tail = append(part, tail...)
		if offset, ok := lastLines(tail, n, at == 0); ok {
			_, err := f.Seek(at+offset, io.SeekStart)
			return n, false, err
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return countLines(tail), true, err
}

// lastLines returns where the last n lines begin in data, which ends with the
// file, if it holds one more before them. The data may begin within a record,
// unless it is whole.
func lastLines(data []byte, n int64, whole bool) (offset int64, ok bool) {
	end := bytes.LastIndexByte(data, '\n') // what comes after is not written whole
	var lines int64
	for end >= 0 {
		begin := bytes.LastIndexByte(data[:end], '\n') + 1
		if begin == 0 && !whole {
			return 0, false
		}
		if line, err := ParseLine(data[begin:end]); err == nil && !line.Partial {
			if lines++; lines > n {
				return int64(end) + 1, true
			}
		}
		end = begin - 1
	}
	return 0, false
}

// countLines counts the ends of lines in the records of a file.
func countLines(data []byte) (lines int64) {
	for record := range bytes.Lines(data) {
		if line, err := ParseLine(record); err == nil && !line.Partial && bytes.HasSuffix(record, []byte("\n")) {
			lines++
		}
	}
	return lines
}

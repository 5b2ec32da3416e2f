// Package podlog reads the log files of containers, which are in the format of
// the container runtime interface: a time, the stream, whether the line is
// whole, and the text, as in "2016-10-06T00:17:09.669794202Z stdout F content". It
// rotates them as well (files.go).
package podlog

import (
	"bytes"
	"fmt"
	"time"
)

// Line is one record of a log file.
type Line struct {
	Time    time.Time
	Stream  string // stdout or stderr
	Partial bool   // the text goes on in the next record of the stream
	Text    []byte // without the newline; it shares memory with what was parsed
}

// ParseLine reads one record, with or without its newline. The error says what
// is wrong with one that is not in the format.
func ParseLine(record []byte) (Line, error) {
	record = bytes.TrimSuffix(record, []byte("\n"))
	stamp, rest, ok := bytes.Cut(record, []byte(" "))
	if !ok {
		return Line{}, fmt.Errorf("log record %.40q: no stream", record)
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{}, fmt.Errorf("log record %.40q: %w", record, err)
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || string(stream) != "stdout" && string(stream) != "stderr" {
		return Line{}, fmt.Errorf("log record %.80q: the stream is neither stdout nor stderr", record)
	}
	tags, text, _ := bytes.Cut(rest, []byte(" "))
	tag, _, _ := bytes.Cut(tags, []byte(":"))
	if string(tag) != "F" && string(tag) != "P" {
		return Line{}, fmt.Errorf("log record %.80q: the tag is neither F nor P", record)
	}
	return Line{Time: at, Stream: string(stream), Partial: tag[0] == 'P', Text: text}, nil
}

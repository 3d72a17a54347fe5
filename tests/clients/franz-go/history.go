package main

import (
	"encoding/json"
	"os"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// history writes lines, each with one system call: they outlive a kill.
type history struct {
	mutex sync.Mutex
	file  *os.File
}

type fields map[string]any

// now is in microseconds of the machine's monotonic clock.
func now() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		panic(err)
	}
	return at.Nano() / 1000
}

func openHistory(path string) (*history, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	return &history{file: file}, err
}

func (h *history) write(op string, what fields) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	line := fields{"at": now(), "op": op}
	for name, value := range what {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err == nil {
		_, err = h.file.Write(append(text, '\n'))
	}
	if err != nil {
		panic(err)
	}
}

// who is a member of a group; a reader without one is a group of its own.
type who struct {
	group, member string
}

func (h *history) place(op string, w who, topic string, partition int32, more fields) {
	what := fields{"group": w.group, "member": w.member, "topic": topic, "partition": partition}
	for name, value := range more {
		what[name] = value
	}
	h.write(op, what)
}

func (h *history) read(w who, record *kgo.Record) {
	headers := map[string]string{}
	for _, header := range record.Headers {
		headers[header.Key] = string(header.Value)
	}
	id, _, _ := strings.Cut(string(record.Value), " ")
	h.place("read", w, record.Topic, record.Partition, fields{
		"offset":    record.Offset,
		"id":        id,
		"key":       string(record.Key),
		"timestamp": record.Timestamp.UnixMilli(),
		"headers":   headers,
	})
}

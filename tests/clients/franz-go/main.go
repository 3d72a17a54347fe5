// franz-go as one of the clients of the matrix: ../README.md says what it is asked, and
// tests/src/history/event.rs what it writes down.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
)

// errUnsupported is what this client cannot do.
var errUnsupported = errors.New("not in this driver")

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("driver BOOTSTRAP HISTORY")
	}
	written, err := openHistory(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	who, err := credentials()
	if err != nil {
		log.Fatal(err)
	}
	d := &driver{brokers: strings.Split(os.Args[1], ","), credentials: who, history: written}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) > 0 {
			fmt.Println(answer(d, words[0], words[1:]))
		}
	}
}

func answer(d *driver, verb string, words []string) string {
	arguments := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		arguments[name] = value
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	said, err := d.do(ctx, verb, arguments)
	switch {
	case errors.Is(err, errUnsupported):
		return "unsupported " + err.Error()
	case err != nil:
		return "failed " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return strings.TrimRight("ok "+said, " ")
}

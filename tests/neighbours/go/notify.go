// A library written in Go that listens for SIGTERM.
package main

import "C"

import (
	"os"
	"os/signal"
	"syscall"
)

//export go_notify
func go_notify() {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGTERM)
	go func() {
		for range heard {
			os.Stdout.WriteString("neighbour\n")
		}
	}()
}

func main() {}

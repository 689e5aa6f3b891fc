// A library written in Go that listens for SIGTERM, or that only works.
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

//export go_spin
func go_spin() {
	started := make(chan struct{})
	for i := 0; i < 4; i++ {
		go func() {
			started <- struct{}{}
			for {
			}
		}()
		<-started
	}
}

func main() {}

// Without a go.mod, Go 1.22 and later would route as 1.21 did.

//go:debug httpmuxgo121=0

// Go's own server of /debug/pprof in a program with something to show, for surface.py: what it asks of us it asks of this one
// too. Serves on a free port of loopback and on the Unix socket PATH, prints the port, and ends with its input.
//
//	go_server PATH [ARGUMENT...]
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

// work allocates, computes and waits for a lock, a little of each.
func work(lock *sync.Mutex, kept [][]byte) {
	for i := 0; ; i++ {
		lock.Lock()
		kept[i%len(kept)] = make([]byte, 1000+i%5000)
		for begin := time.Now(); time.Since(begin) < 200*time.Microsecond; {
		}
		lock.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	pprof.NewProfile("custom").Add(new(int), 0)
	http.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, runtime.Version()) })
	lock, kept := new(sync.Mutex), make([][]byte, 1000)
	for i := 0; i < 3; i++ {
		go work(lock, kept)
	}
	local, err := net.Listen("unix", os.Args[1])
	fail(err)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	go http.Serve(local, nil)
	go http.Serve(tcp, nil)
	fmt.Println(tcp.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
}

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/google/pprof/profile"
)

// serveStripped stands between a client and the agent: profiles lose their names, so that the client must POST their
// addresses to /symbol, which is passed on as it is. The main executable's file is hidden, so that nothing is found locally.
func serveStripped(target string) {
	base, err := url.Parse(target)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("http://%s%s\n", listener.Addr(), base.Path)
	http.HandleFunc("/debug/pprof/symbol", func(w http.ResponseWriter, r *http.Request) {
		answer, err := http.Post("http://"+base.Host+"/debug/pprof/symbol", r.Header.Get("Content-Type"), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		io.Copy(w, answer.Body)
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		data, err := fetch("http://" + base.Host + r.URL.Path)
		var p *profile.Profile
		if err == nil {
			p, err = profile.ParseData(data)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		for _, l := range p.Location {
			l.Line = nil
		}
		p.Function = nil
		for _, m := range p.Mapping {
			m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames = false, false, false, false
			m.File = "/nowhere" + m.File
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		p.Write(w)
	})
	// The caller ends us; without one we end when its pipe does.
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	http.Serve(listener, nil)
}

// checkprof reads profiles as the clients of /debug/pprof do and applies their rules: google/pprof's parser and CheckValid, and
// what the scrapers (Alloy, Pyroscope, Parca) demand beyond it.
//
//	checkprof SOURCE...                 each SOURCE, a file or an http URL, on its own
//	checkprof -sequence SOURCE SOURCE…  also as consecutive scrapes: identities stable, cumulative values never falling
//	checkprof -proxy URL                serves URL's profile with its function names removed, and passes /symbol on, so that
//	                                    a client must ask for them; prints the address to use
//
// Prints "SOURCE: ok" or every broken rule; the exit status is 1 when any rule is broken.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io/ioutil"
	"net/http"
	"os"
	"strings"

	"github.com/google/pprof/profile"
)

// fetch applies the scrapers' rules to the answer itself and returns the profile's bytes.
func fetch(source string) ([]byte, error) {
	if !strings.HasPrefix(source, "http://") {
		return ioutil.ReadFile(source)
	}
	answer, err := http.Get(source)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := ioutil.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s: %s", answer.Status, body)
	}
	if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/octet-stream") {
		return nil, fmt.Errorf("Content-Type %q", kind)
	}
	if len(body) < 3 || body[0] != 0x1f || body[1] != 0x8b {
		return nil, fmt.Errorf("not a gzip file")
	}
	return body, nil
}

func check(source string) (*profile.Profile, []string) {
	data, err := fetch(source)
	if err != nil {
		return nil, []string{err.Error()}
	}
	parsed, err := profile.ParseData(data)
	if err != nil {
		return nil, []string{err.Error()}
	}
	problems := rules(parsed)
	if err := parsed.CheckValid(); err != nil {
		problems = append(problems, err.Error())
	}
	var again bytes.Buffer
	if err := parsed.Write(&again); err != nil {
		problems = append(problems, "does not write: "+err.Error())
	} else if _, err := profile.Parse(&again); err != nil {
		problems = append(problems, "does not survive a round trip: "+err.Error())
	}
	return parsed, problems
}

func main() {
	sequence := flag.Bool("sequence", false, "the sources are consecutive scrapes of one process")
	proxied := flag.String("proxy", "", "serve this profile without its names")
	flag.Parse()
	if *proxied != "" {
		serveStripped(*proxied)
		return
	}
	failed := false
	var before *profile.Profile
	for _, source := range flag.Args() {
		parsed, problems := check(source)
		if *sequence && before != nil && parsed != nil {
			problems = append(problems, consecutive(before, parsed)...)
		}
		before = parsed
		for _, problem := range problems {
			fmt.Printf("%s: %s\n", source, problem)
			failed = true
		}
		if len(problems) == 0 {
			fmt.Printf("%s: ok\n", source)
		}
	}
	if failed || flag.NArg() == 0 {
		os.Exit(1)
	}
}

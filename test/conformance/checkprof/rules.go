package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/pprof/profile"
)

// rules returns what scrapers would refuse or misread in one profile.
func rules(p *profile.Profile) []string {
	var problems []string
	report := func(format string, arguments ...interface{}) {
		problems = append(problems, fmt.Sprintf(format, arguments...))
	}

	// Parca: ids are 1..N in message order.
	for i, m := range p.Mapping {
		if m.ID != uint64(i+1) {
			report("mapping %d has id %d", i+1, m.ID)
		}
	}
	for i, l := range p.Location {
		if l.ID != uint64(i+1) {
			report("location %d has id %d", i+1, l.ID)
		}
	}
	for i, f := range p.Function {
		if f.ID != uint64(i+1) {
			report("function %d has id %d", i+1, f.ID)
		}
		if f.Name == "" || f.SystemName == "" {
			report("function %d has no name", f.ID)
		}
		if len(f.Name) > 65535 {
			report("function %d has a name of %d bytes", f.ID, len(f.Name))
		}
	}

	// Alloy: four values at most; Pyroscope: no hyphen in a type's name.
	if len(p.SampleType) == 0 || len(p.SampleType) > 4 {
		report("%d sample types", len(p.SampleType))
	}
	for _, t := range p.SampleType {
		if t.Type == "" || t.Unit == "" || strings.Contains(t.Type, "-") {
			report("sample type %q, unit %q", t.Type, t.Unit)
		}
	}
	if p.PeriodType == nil || p.PeriodType.Type == "" || p.PeriodType.Unit == "" {
		report("no period type")
	}
	if p.TimeNanos == 0 {
		report("no time")
	}

	// Alloy's identity of a stack is the list of its addresses.
	seen := map[uint64]bool{}
	for _, l := range p.Location {
		if l.Address == 0 {
			report("location %d has address 0", l.ID)
		}
		if seen[l.Address] {
			report("two locations have address %#x", l.Address)
		}
		seen[l.Address] = true
		if m := l.Mapping; m != nil && (l.Address < m.Start || l.Address >= m.Limit) {
			report("location %#x is outside its mapping %#x-%#x", l.Address, m.Start, m.Limit)
		}
		if len(l.Line) == 0 {
			report("location %#x has no function", l.Address)
		}
	}
	for _, m := range p.Mapping {
		if m.Start%4096 != 0 || m.Limit%4096 != 0 || m.Offset%4096 != 0 || m.Start >= m.Limit {
			report("mapping %s: %#x-%#x at %#x", m.File, m.Start, m.Limit, m.Offset)
		}
		if strings.HasSuffix(m.File, "(deleted)") {
			report("mapping %s", m.File)
		}
		if !m.HasFunctions {
			report("mapping %s does not say that it has functions", m.File)
		}
	}
	if len(p.Location) > 0 && (len(p.Mapping) == 0 || p.Mapping[0].File == "") {
		report("no main executable")
	}

	identities := map[string]bool{}
	for _, s := range p.Sample {
		if identities[identity(s)] {
			report("two samples have the same stack and labels: %s", identity(s))
		}
		identities[identity(s)] = true
		for key, values := range s.Label {
			if key == "" || len(values) != 1 || values[0] == "" || strings.HasPrefix(key, "pprof::") {
				report("label %q: %q", key, values)
			}
		}
		for key, values := range s.NumLabel {
			if key == "" || len(values) != 1 || strings.HasPrefix(key, "pprof::") {
				report("numeric label %q: %v", key, values)
			}
		}
	}
	for _, text := range texts(p) {
		if !utf8.ValidString(text) {
			report("not UTF-8: %q", text)
		}
		// Pyroscope would take the program for a Go program.
		if strings.HasPrefix(text, ".go") || strings.HasSuffix(text, ".go") || strings.Contains(text, "/usr/local/go/") {
			report("looks like Go: %q", text)
		}
	}
	for _, comment := range p.Comments {
		if strings.HasPrefix(comment, "executableInfo=") {
			report("comment %q", comment)
		}
	}
	return problems
}

func texts(p *profile.Profile) []string {
	all := append([]string{}, p.Comments...)
	for _, f := range p.Function {
		all = append(all, f.Name, f.SystemName, f.Filename)
	}
	for _, m := range p.Mapping {
		all = append(all, m.File, m.BuildID)
	}
	return all
}

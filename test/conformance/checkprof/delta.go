package main

import (
	"fmt"
	"sort"

	"github.com/google/pprof/profile"
)

// identity is what scrapers compare between two scrapes: the addresses and the labels.
func identity(s *profile.Sample) string {
	text := ""
	for _, l := range s.Location {
		text += fmt.Sprintf("%#x ", l.Address)
	}
	var labels []string
	for key, values := range s.Label {
		labels = append(labels, fmt.Sprintf("%s=%q", key, values))
	}
	for key, values := range s.NumLabel {
		labels = append(labels, fmt.Sprintf("%s=%d", key, values))
	}
	sort.Strings(labels)
	return text + fmt.Sprint(labels)
}

// Values that only grow: a scraper that sees one fall drops the sample.
var cumulative = map[string]bool{"alloc_objects": true, "alloc_space": true, "contentions": true, "delay": true}

func consecutive(before, after *profile.Profile) []string {
	var problems []string
	values := map[string][]int64{}
	for _, s := range after.Sample {
		values[identity(s)] = s.Value
	}
	for _, s := range before.Sample {
		now, there := values[identity(s)]
		for i, t := range before.SampleType {
			if !cumulative[t.Type] || s.Value[i] == 0 {
				continue
			}
			if !there {
				problems = append(problems, fmt.Sprintf("the stack %s is gone", identity(s)))
				break
			}
			if now[i] < s.Value[i] {
				problems = append(problems, fmt.Sprintf("%s fell from %d to %d at %s", t.Type, s.Value[i], now[i], identity(s)))
			}
		}
	}
	if after.TimeNanos <= before.TimeNanos {
		problems = append(problems, "time does not go on")
	}
	return problems
}

package hollow

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"windlass.dev/windlass/internal/agent"
)

// Variable is the environment variable of a container that says how it behaves,
// as words with commas between them:
//
//	ready-after=2s   opens its ports, and passes its readiness and startup
//	                 probes, that long after its start; "never" is never
//	start-takes=1s   time from the decision to start it until it runs
//	start-fails      it cannot be started
//	exit-after=5s    ends by itself
//	exit-code=1      of exit-after
//	stop-takes=1s    from the stop signal to its end; "never" is until it is killed
//
// Without it a container listens at once on the ports that it declares and ends
// at once when told to. The last word of the image's tag, after a "-", can be
// absent (there is no such image), broken (start-fails), crash
// (ready-after=never,exit-after=10ms,exit-code=1) or unready (ready-after=never): httpd:v2-crash,
// httpd:absent. The variable wins over the tag.
const Variable = "HOLLOW"

// Behaviour returns the program that a value of Variable describes, starting
// from what is known without it. An error names the word, and what could be
// there instead.
func Behaviour(text string, program Program) (Program, error) {
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		name, value, given := strings.Cut(word, "=")
		i := slices.IndexFunc(words, func(w behaviourWord) bool { return w.name == name })
		if i < 0 {
			return Program{}, fmt.Errorf("%s: no such word: %.40q (there are %s)", Variable, name, strings.Join(wordNames(), ", "))
		}
		if given != words[i].valued {
			if given {
				return Program{}, fmt.Errorf("%s: %s takes no value", Variable, name)
			}
			return Program{}, fmt.Errorf("%s: %s needs a value: %s=%s", Variable, name, name, words[i].example)
		}
		if err := words[i].set(&program, value); err != nil {
			return Program{}, fmt.Errorf("%s: %s=%.40q: %w, such as %s", Variable, name, value, err, words[i].example)
		}
	}
	return program, nil
}

// behaviourWord is one word of the language of Variable.
type behaviourWord struct {
	name, example string
	valued        bool
	set           func(p *Program, value string) error
}

var words = []behaviourWord{
	{"ready-after", "2s", true, func(p *Program, value string) (err error) {
		p.ListenAfter, p.NeverListens, err = durationOrNever(value)
		return err
	}},
	{"start-takes", "1s", true, func(p *Program, value string) (err error) {
		p.StartTakes, err = duration(value)
		return err
	}},
	{"start-fails", "", false, func(p *Program, _ string) error {
		p.StartError = errors.New("start-fails")
		return nil
	}},
	{"exit-after", "5s", true, func(p *Program, value string) (err error) {
		if p.ExitAfter, err = duration(value); err == nil && p.ExitAfter == 0 {
			p.ExitAfter = 1 // zero would be never
		}
		return err
	}},
	{"exit-code", "1", true, func(p *Program, value string) (err error) {
		if p.ExitCode, err = strconv.Atoi(value); err != nil || p.ExitCode < 0 || p.ExitCode > 255 {
			return errors.New("give a number from 0 to 255")
		}
		return nil
	}},
	{"stop-takes", "1s", true, func(p *Program, value string) (err error) {
		p.StopTakes, p.IgnoresStop, err = durationOrNever(value)
		return err
	}},
}

func wordNames() []string {
	var names []string
	for _, w := range words {
		names = append(names, w.name)
	}
	return names
}

func duration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return 0, errors.New("give a time that is not negative")
	}
	return d, nil
}

func durationOrNever(value string) (d time.Duration, never bool, err error) {
	if value == "never" {
		return 0, true, nil
	}
	if d, err = duration(value); err != nil {
		err = errors.New("give a time that is not negative, or never")
	}
	return d, false, err
}

// wordAbsent in a tag says that there is no such image.
const wordAbsent = "absent"

// tagPrograms are the words of tags that say how containers behave.
var tagPrograms = map[string]Program{
	"broken":  {StartError: errors.New("the image is broken")},
	"crash":   {NeverListens: true, ExitAfter: 10 * time.Millisecond, ExitCode: 1},
	"unready": {NeverListens: true},
}

// tagWord returns the last word of a reference's tag, "" if it has none.
func tagWord(ref string) string {
	name, _, _ := strings.Cut(ref, "@")
	_, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	return tag[strings.LastIndex(tag, "-")+1:]
}

// programOf is how a container of a boundless node behaves.
func programOf(spec agent.ContainerSpec) (Program, error) {
	program := tagPrograms[tagWord(spec.Image)]
	program.Listens = spec.Ports
	for _, variable := range spec.Env {
		if value, ok := strings.CutPrefix(variable, Variable+"="); ok {
			return Behaviour(value, program)
		}
	}
	return program, nil
}

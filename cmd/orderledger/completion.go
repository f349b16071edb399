package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand prints a script that completes commands, flags and their values.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (c completionCommand) Run(e *environment) error {
	words := completions(e.model.Node, nil)
	var script string
	switch c.Shell {
	case "bash":
		script = bashCompletion(words)
	case "zsh":
		script = "autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion(words)
	case "fish":
		script = fishCompletion(words)
	}
	_, err := io.WriteString(e.out, script)
	return err
}

// A completion is what may follow the words of a command.
type completion struct {
	path   []string
	words  []string
	valued []string // those words that are flags with a value
}

func completions(n *kong.Node, path []string) []completion {
	c := completion{path: path}
	for _, child := range n.Children {
		if !child.Hidden {
			c.words = append(c.words, child.Name)
		}
	}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			c.words = append(c.words, "--"+f.Name)
			if !f.IsBool() {
				c.valued = append(c.valued, "--"+f.Name)
			}
		}
	}
	for _, p := range n.Positional {
		if p.Enum != "" {
			c.words = append(c.words, strings.Split(p.Enum, ",")...)
		}
	}
	slices.Sort(c.words)
	all := []completion{c}
	for _, child := range n.Children {
		if !child.Hidden {
			all = append(all, completions(child, append(slices.Clone(path), child.Name))...)
		}
	}
	return all
}

func bashCompletion(all []completion) string {
	var b strings.Builder
	var valued []string
	for _, c := range all {
		valued = append(valued, c.valued...)
	}
	slices.Sort(valued)
	b.WriteString("_orderledger() {\n  local path=() word value=\n  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n" +
		"    if [ -n \"$value\" ]; then value=; continue; fi\n    case \"$word\" in\n      " +
		strings.Join(slices.Compact(valued), "|") + ") value=1 ;;\n      -*) ;;\n      *) path+=(\"$word\") ;;\n    esac\n  done\n" +
		"  local words\n  case \"${path[*]}\" in\n")
	// The longest path first, so that a command's arguments do not hide it.
	for _, c := range slices.Backward(all) {
		pattern := `""`
		if len(c.path) > 0 {
			pattern = fmt.Sprintf("%q*", strings.Join(c.path, " "))
		}
		fmt.Fprintf(&b, "    %s) words=%q ;;\n", pattern, strings.Join(c.words, " "))
	}
	b.WriteString("    *) words=\"\" ;;\n  esac\n  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n" +
		"  [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default 2>/dev/null\n}\ncomplete -F _orderledger orderledger\n")
	return b.String()
}

func fishCompletion(all []completion) string {
	var b strings.Builder
	b.WriteString("complete -c orderledger -f\n")
	for _, c := range all {
		condition := "__fish_use_subcommand"
		if len(c.path) > 0 {
			condition = "__fish_seen_subcommand_from " + c.path[len(c.path)-1]
		}
		fmt.Fprintf(&b, "complete -c orderledger -n %q -a %q\n", condition, strings.Join(c.words, " "))
	}
	return b.String()
}

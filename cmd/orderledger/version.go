package main

import (
	"runtime"
	"runtime/debug"
)

// versionCommand prints what was built.
type versionCommand struct{}

func (versionCommand) Run(e *environment) error {
	v := buildVersion()
	if e.JSON {
		return e.printJSON(v)
	}
	e.printf("orderledger %s %s %s\n", v.Version, v.Commit, v.Go)
	return nil
}

type buildInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// buildVersion reads what the toolchain has recorded.
func buildVersion() buildInfo {
	v := buildInfo{Version: "devel", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v.Commit = s.Value[:12]
		}
	}
	return v
}

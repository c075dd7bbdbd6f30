// Package devkube builds the programs of a Kubernetes control plane into one test binary: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler. The binary is the program whose name it is started under, as a link.
//
// The modules that k8s.io/kubernetes calls v0.0.0 are replaced in go.mod by their published versions; they move
// together. `go mod tidy` would add everybody's test dependencies: do not run it.
package devkube

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

var kubernetesPrograms = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
}

// TestMain runs before any flag of the testing package is read, so that the programs see theirs untouched.
func TestMain(*testing.M) {
	name := filepath.Base(os.Args[0])
	if name == "etcd" {
		etcdmain.Main(os.Args)
		return
	}
	newCommand, known := kubernetesPrograms[name]
	if !known {
		fmt.Fprintf(os.Stderr, "%s is no program of a control plane; start this file under one of their names.\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(newCommand()))
}

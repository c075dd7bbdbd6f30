package devkube

import (
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

func TestMain(m *testing.M) {
	program := filepath.Base(os.Args[0])
	commands := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllermanager.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	}
	if command, known := commands[program]; known {
		os.Exit(cli.Run(command()))
	}
	if program == "etcd" {
		etcdmain.Main(os.Args)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

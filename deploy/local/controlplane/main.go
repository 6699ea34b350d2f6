// Command controlplane is etcd, kube-apiserver or istiod, by its first argument.
//
// The local stack needs the three real servers without containers. They are Go modules like any other, and in one program
// they share the Kubernetes libraries, which makes the build half as long as building them apart.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	pilot "istio.io/istio/pilot/cmd/pilot-discovery/app"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 2 {
		fail("usage: controlplane etcd|kube-apiserver|pilot-discovery [FLAGS]")
	}
	// Each server reads os.Args as if it were a program of its own.
	os.Args = os.Args[1:]
	switch os.Args[0] {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "pilot-discovery":
		if err := pilot.NewRootCommand().Execute(); err != nil {
			os.Exit(1)
		}
	default:
		fail("controlplane: unknown server " + os.Args[0])
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}

"""A real Kubernetes control plane on one machine: API server, controllers, scheduler and etcd, and a kubelet that only
says that everything runs.
"""

"""Plugins for the host's kernel: `host`, `cgroup`, `numa`, `qos` and `offload`, a folder each."""

"""Movers of guests to other hosts: the hypervisor, a program, Proxmox VE, oVirt's engine."""

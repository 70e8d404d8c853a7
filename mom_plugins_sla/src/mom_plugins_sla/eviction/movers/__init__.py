"""Movers of guests to other hosts: hypervisor, program, Proxmox VE, oVirt's engine."""

"""What moves guests to other hosts: the hypervisor, a program, a server of the operator's, Proxmox VE, oVirt's engine."""

"""Program that runs as root and performs mom's privileged operations. Apart from libvirt's module, it uses only the standard library."""

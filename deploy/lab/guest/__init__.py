"""A QEMU guest with Debian's stock kernel, for what this machine's own kernel lacks: kernel WireGuard and GENEVE."""

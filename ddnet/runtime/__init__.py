"""What goes on around the work: paths, logs, signals, locks, GPUs, manifests."""

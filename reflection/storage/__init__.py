"""Volumes of offloaded pods: made at the provider where the pod goes, a stub of a PersistentVolume at the consumer."""

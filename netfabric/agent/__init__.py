"""The agent: has one desired state in the kernel, keeps it there and tells how it goes."""

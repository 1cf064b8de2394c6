"""The controller that turns a VirtualNode into a running virtual kubelet, and takes it away again."""

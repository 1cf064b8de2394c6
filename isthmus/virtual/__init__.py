"""The parts of `isthmus virtual-kubelet`, built from its options."""

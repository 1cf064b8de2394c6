"""Group offloading.isthmus.dev, version v1alpha1: what runs where, declared."""

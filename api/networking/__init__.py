"""Group networking.isthmus.dev, version v1alpha1: which clusters' pods reach each other, declared on either side."""

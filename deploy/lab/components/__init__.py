"""The programs of a lab cluster, one module a group: files and units, no decisions on order."""

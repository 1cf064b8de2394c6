"""How pods of an offloaded namespace get to virtual nodes, and how a namespace becomes an offloaded one.

`strategy` and `selectors` are pure and say what a pod needs; `webhook` gives it to new pods; `controller` keeps the
NamespaceOffloading objects, and what they stand for, in step.
"""

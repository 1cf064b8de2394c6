"""Reflection of everything in an offloaded namespace that is not a pod: one engine, one small file and one row a kind.

Rules: `forge` and `status_back` are pure; the engine alone does I/O; nothing at the provider is touched that does not
carry this consumer's mark; a kind knows nothing of the engine. docs/adding-a-reflector.md shows how a kind is added.
"""

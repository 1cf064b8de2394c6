"""Figures: what isthmus costs and how fast it is, next to the same pods made directly at the provider.

Run by `make bench`. On a machine that carries both clusters, requests and CPU seconds tell more than the wall clock.
"""

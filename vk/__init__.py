"""The node's side: the Node object and its Lease, capacity, and the kubelet HTTP API.

What it needs of the pods' whereabouts it states as Protocols; it does not import `reflection`.
"""

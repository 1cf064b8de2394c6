"""The Node itself: its object, Lease, capacity, readiness and serving certificate.

Pure forging and arithmetic (`forge`, `quantities`, `capacity`, `settings`) are apart from the parts that talk to API
servers.
"""

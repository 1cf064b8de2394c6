"""A thin asyncio Kubernetes library: transport, list and watch, stores, queues, controllers.

Knows nothing of virtual nodes. Objects cross it as bytes and small envelopes, never as
generated models, so that fields unknown to this version survive a copy.
"""

"""Keeping objects in step between the consumer and the provider.

Pure `forge` functions turn a consumer object into a provider object and a provider status
into a consumer status; controllers decide when to write what.
"""

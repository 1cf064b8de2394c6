"""The provider's side: Tenants, the credentials that they are given, and what they may have.

`settings`, `rights` and `manifest` are pure; `tenants`, `removal` and `credentials` reconcile; `provider` puts them
together.
"""

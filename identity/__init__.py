"""Who may borrow what of whom: keys, requests and their proofs, credentials and their renewal, tenants, slices, quota.

`names`, `keys`, `sealing`, `requests`, `documents` and `problems` are pure and shared by both sides. `provider` is what
the provider's manager does with Tenants; `consumer` is what the consumer's does with Identities.
"""

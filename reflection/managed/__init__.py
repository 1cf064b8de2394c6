"""Managed mode: a consumer asks by ShadowPods and NamespaceMaps, and the provider's manager decides and does.

The provider's side: `namespace_maps`, `shadow_pods`, what it asks (`requests`), and `provider`, which puts all of it
together; `checks`, `security`, `pod`, `naming` and `usage` are pure; `tenancy` says what is asked of whoever knows the
tenants, `admission` asks it.
The virtual kubelet's side: `writer` (with `template`, pure) for pods and `maps` for namespaces.
"""

"""Managed mode: a consumer asks by ShadowPods and NamespaceMaps, and the provider's manager decides and does.

`checks`, `pod` and `naming` are pure. `namespace_maps`, `shadow_pods` and `provider` are the provider's side; `view`,
`writer` and `maps` are the virtual kubelet's.
"""

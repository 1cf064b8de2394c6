"""The kubelet HTTP API of a virtual node.

One TLS port serves what an API server, metrics-server and monitoring expect of a kubelet: logs, exec, attach,
port-forward, run, pods, stats, metrics, healthz, configz. Callers are authenticated and authorised as a kubelet does
it; the streams are spliced to the provider's API server, never parsed. One verb a file; `app.py` puts them together.
What this package needs to know about pods it states in `interfaces.py`.
"""

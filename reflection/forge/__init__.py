"""Pure functions that turn a consumer Pod into a provider Pod and a provider status into a consumer status.

Nothing here does I/O or reads a clock: plain decoded JSON and parameters in, plain JSON-ready dicts out. The table in
`fields` says for each Pod field what becomes of it; `pod`, `changes` and `status` are what controllers call.
"""

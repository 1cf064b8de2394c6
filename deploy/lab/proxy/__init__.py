"""An API server's evil twin for tests: a proxy in front of it that answers wrongly, late or not at all, on demand."""

"""Real Kubernetes clusters on one machine, each in a network namespace of its own, for the demo and the tests."""

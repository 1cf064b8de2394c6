"""The controller that turns NetworkPeerings into one desired state for each agent, and what agents tell into status.

`declared` reads objects, `netfabric.plan` plans, `desired` says what each agent shall have, `status` what is the case:
all pure. `keys`, `authority` and `numbers` keep what must outlive a process in Secrets and a ConfigMap, `agents` talks
to the agents, and `controller` puts it together, in the leader only.
"""

"""Hypothesis without its clock: a loaded machine is no fault of the code."""

from hypothesis import HealthCheck, settings

settings.register_profile("identity", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("identity")

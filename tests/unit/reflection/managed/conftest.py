"""Properties: no deadlines, for the machine may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("managed", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("managed")

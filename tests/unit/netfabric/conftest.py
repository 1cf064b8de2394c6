"""Property tests without a deadline: a busy machine is not a failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("netfabric", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("netfabric")

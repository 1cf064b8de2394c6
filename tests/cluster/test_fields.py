"""The table of Pod fields against the schema of running API servers."""

from __future__ import annotations

from deploy.lab.cluster import LabCluster
from reflection.forge.fields import uncovered


def test_the_table_covers_every_field_of_the_api_servers_schema(consumer: LabCluster, provider: LabCluster) -> None:
    for cluster in (consumer, provider):
        assert uncovered(cluster.api.request("GET", "/openapi/v3/api/v1")) == set()

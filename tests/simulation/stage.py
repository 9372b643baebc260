"""The stage of a story: the substituted libraries, a folder for files, and an empty world between them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from unittest.mock import patch

from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.connection import Network, install
from tests.simulation.history import History
from tests.simulation.kafka.admin_client import SimAdminClient
from tests.simulation.kafka.client import bound_to
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.consumed import SimMessage
from tests.simulation.kafka.consumer import SimConsumer
from tests.simulation.kafka.groups import Coordinators
from tests.simulation.kafka.producer import SimProducer
from tests.simulation.people.customers import CREDENTIALS
from tests.simulation.plan import Plan
from tests.simulation.scheduler import Scheduler
from tests.simulation.substitution import EPOCH, KafkaClients, simulated
from tests.simulation.witness import Witness
from tests.simulation.world import World

_ENVIRONMENT: Final = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "no-such-file",
    "AWS_SHARED_CREDENTIALS_FILE": CREDENTIALS,
}
"""The environment of all processes, in which AWS's library finds our own key and nothing of this machine."""


@contextmanager
def opened(plan: Plan) -> Iterator[World]:
    """An empty world for this plan. Files get relative names, so that two runs of a story write the same texts."""
    scheduler = Scheduler()
    history = History(lambda: scheduler.now)
    cluster = Cluster(scheduler, plan.dice("kafka"))
    cluster.coordinators = Coordinators(cluster)
    cluster.coordinators.max_metadata_bytes = plan.max_metadata_bytes
    cluster.network.count_fault = history.count_fault
    cloud = Cloud(scheduler, plan.dice("aws"), history)
    cloud.state.epoch = EPOCH

    clients = KafkaClients(
        bound_to(SimConsumer, cluster, scheduler),
        bound_to(SimProducer, cluster, scheduler),
        bound_to(SimAdminClient, cluster, scheduler),
    )

    network = Network(cloud)
    with (
        warnings.catch_warnings(
            action="ignore", category=RuntimeWarning
        ),  # a host was killed before it awaited something
        TemporaryDirectory() as folder,
        chdir(folder),
        patch.dict(os.environ, _ENVIRONMENT),
        simulated(scheduler, plan.seed, kafka=clients, connect=network.open),
        patch("pushrail_stream.kafka.records.Message", SimMessage),
        install(network),
    ):
        Path("destinations").mkdir()
        world = World(plan, scheduler, history, cluster, cloud)
        witness = Witness(world)
        with witness.watching():
            yield world
        witness.finish()

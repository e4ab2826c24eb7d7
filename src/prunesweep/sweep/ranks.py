"""Ranks of one command: spawned by it, on this machine, whatever the environment tells of other programs' ranks.

Clusters and launchers leave variables such as NODE_RANK and MASTER_ADDR behind.  Lightning and torch would believe them: two
devices would wait for each other until torch gives up, half an hour later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.plugins.environments import LightningEnvironment

FOREIGN = frozenset(
    {
        *("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK", "RANK", "LOCAL_RANK", "ROLE_RANK"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "JSM_NAMESPACE_RANK", "PL_GLOBAL_SEED"),
        *("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"),  # of another machine: gloo would find no such device
    }
)
"""What torch.distributed and Lightning read of their surroundings; besides, whatever begins with TORCHELASTIC_."""
ELASTIC = "TORCHELASTIC_"


class OwnRanks(LightningEnvironment):
    """Ranks that this command spawns on this machine; nothing in the environment says otherwise.

    The local rank is read there still: Lightning writes it into each process that it spawns, within `own_environment`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._port = find_free_network_port()
        self.set_global_rank(0)  # of this process, which may have read another when Lightning was imported

    @property
    def creates_processes_externally(self) -> bool:
        return False

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self._port

    def node_rank(self) -> int:
        return 0


@contextmanager
def own_environment() -> Iterator[None]:
    """Without the variables of other programs' ranks, for this process and those that it starts meanwhile."""
    foreign = {name: value for name, value in os.environ.items() if name in FOREIGN or name.startswith(ELASTIC)}
    for name in foreign:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(foreign)

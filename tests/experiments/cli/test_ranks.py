"""Processes that are started from outside: what a trainer is told of them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch.utilities import rank_zero_only

from experiments import zero_shot
from experiments.cli.parts import parts_of
from experiments.cli.ranks import as_launched
from gl_ris.errors import UserError
from gl_ris.zero_shot import ZeroShotRIS

TORCHRUN = {
    **{"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "GROUP_RANK": "1"},
    **{"WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "RANK": "4", "LOCAL_RANK": "1"},
}
SLURM = {
    **{"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "3", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "gl-ris"},
    **{"SLURM_JOB_ID": "123", "SLURM_PROCID": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
}
LAUNCHERS = {"torchrun": TORCHRUN, "srun": SLURM}


@pytest.fixture(params=LAUNCHERS)
def launched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the fifth of six processes on two machines."""
    for name, value in LAUNCHERS[request.param].items():
        monkeypatch.setenv(name, value)
    # Lightning sets it where a trainer is made
    monkeypatch.setattr(rank_zero_only, "rank", 4)


def parts(*arguments: str) -> Any:
    return parts_of(zero_shot.COMMAND, ZeroShotRIS, ["trainer.accelerator=cpu", *arguments])


def test_a_command_of_its_own_is_one_process() -> None:
    assert as_launched() == {}
    assert parts().trainer.world_size == 1


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize("arguments", [[], ["trainer.devices=3", "trainer.num_nodes=2"]])
def test_processes_that_are_there_are_those_of_the_run(arguments: list[str]) -> None:
    cli = parts(*arguments)
    trainer = cli.trainer
    assert (trainer.world_size, trainer.global_rank, trainer.local_rank, trainer.node_rank) == (6, 4, 1, 1)
    # settings that run again on any machine
    assert cli.settings()["trainer"]["devices"] == ("3" if arguments else "auto")


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize("arguments", [["trainer.devices=1"], ["trainer.devices=2", "trainer.num_nodes=2"]])
def test_other_numbers_are_refused(arguments: list[str]) -> None:
    """Each of the processes would take itself for the only one."""
    with pytest.raises(UserError, match=r"do not fit the 3 processes on each of 2 machines|do not work here"):
        parts(*arguments)

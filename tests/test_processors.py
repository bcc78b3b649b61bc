"""Processors that may be used: the tightest of affinity mask and control group."""

from __future__ import annotations

from pathlib import Path

import pytest
from reads_fixtures import written

from metagene_train.processors import cpu_quota, processors_allowed, usable_processors
from metagene_train.reads.parallel import worthwhile_processes


@pytest.mark.parametrize(
    "child, parent, expected", [("max 100000", "150000 100000", 1.5), ("400000 100000", "max 100000", 4.0)]
)
def test_the_tightest_quota_on_the_way_to_the_root_counts(
    tmp_path: Path, child: str, parent: str, expected: float
) -> None:
    group = tmp_path / "groups" / "job" / "step"
    group.mkdir(parents=True)
    (tmp_path / "groups" / "cgroup.controllers").write_text("cpu\n")
    (group / "cpu.max").write_text(child + "\n")
    (group.parent / "cpu.max").write_text(parent + "\n")
    membership = written(tmp_path / "cgroup", "0::/job/step\n")
    assert cpu_quota(membership, tmp_path / "groups") == expected


def test_version_1_groups_and_none(tmp_path: Path) -> None:
    group = tmp_path / "groups" / "cpu" / "job"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("250000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    membership = written(tmp_path / "cgroup", "4:cpu,cpuacct:/job\n3:memory:/job\n")
    assert cpu_quota(membership, tmp_path / "groups") == 2.5
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(membership, tmp_path / "groups") is None
    assert cpu_quota(tmp_path / "absent", tmp_path / "groups") is None


def test_there_is_always_one_and_small_files_get_no_more(tmp_path: Path) -> None:
    assert 1 <= usable_processors() <= processors_allowed()
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 28)
    assert worthwhile_processes(large) == usable_processors()
    assert worthwhile_processes(written(tmp_path / "small", "x")) == 1
    assert worthwhile_processes(Path("-")) == 1

"""Plans of small studies over cases that exist in memory only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from tests.plan.studies import HERE, STUDY, PlanOf, phantom_cases
from xferlab.leakage.index import StudyIndex
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan, Setting
from xferlab.plan.selection import Index
from xferlab.study.load import load


@pytest.fixture(scope="session")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> PlanOf:
    path = tmp_path_factory.mktemp("plans") / "study.yaml"

    def plan_of(
        more: str = "",
        *,
        base: str = STUDY,
        index: Index = phantom_cases,
        setting: Setting = HERE,
        profile: str | None = None,
        edits: Mapping[str, str] | None = None,
    ) -> Plan:
        text = base + dedent(more)
        for old, new in (edits or {}).items():
            assert old in text, f"nothing to replace: {old}"
            text = text.replace(old, new)
        path.write_text(text)
        return expand(load(path, profile=profile, environ={}), index, setting)

    return plan_of


@pytest.fixture
def planned_real(real_data: Path, real_memo: Path, tmp_path: Path) -> Callable[[str], Plan]:
    """The plan of a study on real images."""

    def planned(text: str) -> Plan:
        (tmp_path / "study.yaml").write_text(text)
        loaded = load(tmp_path / "study.yaml", environ={"XFERLAB_DATA": str(real_data)})
        index = StudyIndex(loaded.base.data, memo_dir=real_memo)
        return expand(loaded, index, HERE)

    return planned

"""Who would have to end so that there is room."""

from gpumod_tui.core.admission.decide import relief
from gpumod_tui.core.models import Holder
from gpumod_tui.core.text import MIB


def holder(pid: int, mib: int | None, unit: str | None = None, state: str = "S") -> Holder:
    return Holder(pid, 0, None if mib is None else mib * MIB, "python3", state, unit)


BOX = (holder(1, 1000), holder(2, 5000, "vllm-embedding.service"), holder(3, 9000, "glm-code.service"))


def test_the_smallest_that_holds_enough_alone_is_named() -> None:
    assert relief(BOX, 900 * MIB) == (
        "it would fit without python3 pid 1 (1000 MiB, no unit); or choose a smaller model or context"
    )
    assert "without vllm-embedding (pid 2, 5000 MiB);" in relief(BOX, 5000 * MIB)


def test_where_none_does_alone_the_fewest_are() -> None:
    assert "without glm-code (pid 3, 9000 MiB) and vllm-embedding (pid 2, 5000 MiB);" in relief(BOX, 12000 * MIB)


def test_what_is_unknown_or_gone_helps_nobody() -> None:
    for holders in ((), (holder(1, None),), (holder(1, 9000, state="Z"),), BOX[:1]):
        assert relief(holders, 5000 * MIB).startswith("no process that is known holds enough")

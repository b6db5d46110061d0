"""The marker `long`: a test that repeats one thing does a share of its repetitions, and all of them with `--long`.

`@pytest.mark.long(share=8, whole=30, of="kills of a switch")`; the fixture `repetitions` is how many there are to be.
"""

import pytest

LEFT_OUT = "left out"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="repeat what the marker `long` names as often as it says")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long(share, whole, of): does `share` of `whole` repetitions without --long")


@pytest.fixture
def repetitions(request: pytest.FixtureRequest) -> int:
    marker = request.node.get_closest_marker("long")
    assert marker is not None, "the fixture belongs to the marker `long`"
    share, whole = int(marker.kwargs["share"]), int(marker.kwargs["whole"])
    if request.config.getoption("long"):
        return whole
    request.node.user_properties.append((LEFT_OUT, f"{whole - share:6} of {whole} {marker.kwargs['of']}"))
    return share


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = [
        (value, report.nodeid)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == LEFT_OUT
    ]
    if left_out:
        terminalreporter.section("repetitions left out; --long does all")
        for value, nodeid in sorted(left_out, key=lambda one: one[1]):
            terminalreporter.write_line(f"{value}: {nodeid}")

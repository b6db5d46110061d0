"""The dashboard on a terminal that counts the bytes which reach it."""

from textual.drivers.headless_driver import HeadlessDriver

from gpumod_tui.ui.app import GpumodApp


class CountingDriver(HeadlessDriver):
    """A terminal that counts."""

    written = 0

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.written += len(data.encode())

    def flush(self) -> None:
        return


class CountedApp(GpumodApp):
    def _build_driver(self, headless: bool, inline: bool, mouse: bool, size: tuple[int, int] | None) -> CountingDriver:
        self._driver = CountingDriver(self, debug=False, mouse=mouse, size=size)
        return self._driver


def written(app: GpumodApp) -> int:
    """Bytes so far."""
    driver = app._driver
    assert isinstance(driver, CountingDriver)
    return driver.written

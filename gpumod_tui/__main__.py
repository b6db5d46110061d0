"""`gpumod`, and `python -m gpumod_tui`."""

import gc
import os
import sys


def main() -> None:
    """Run a command. What units run goes past the command line: a start waits for it, or it stays for long."""
    if sys.argv[1:2] == ["guard"]:
        from gpumod_tui.guard_service import main as guard

        # A call into a system that hangs must not hold up the end.
        os._exit(guard(sys.argv[2:]))
    # What soon ends makes no garbage worth looking for: looking, while modules are imported, takes 6 ms.
    gc.set_threshold(50_000)
    if sys.argv[1:2] == ["preflight"]:
        from gpumod_tui.preflight import main as preflight

        os._exit(preflight(sys.argv[2:]))
    from gpumod_tui.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()

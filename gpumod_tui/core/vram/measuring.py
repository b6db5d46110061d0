"""What a snapshot shows of services counts as measured."""

from gpumod_tui.core.engine import Engine
from gpumod_tui.core.models import Snapshot
from gpumod_tui.core.servers.memory_settings import VARIABLE


def note_services(host: Engine, snapshot: Snapshot) -> None:
    """Note what each service holds now; not for routers, whose models the guard and admission control measure."""
    for view in snapshot.services:
        pid = view.state.main_pid
        if view.service is None or view.service.is_router or pid is None or not view.vram_by_gpu:
            continue
        settings = host.processes.variable(pid, VARIABLE)
        host.needs.note(host.needs.unit_key(view.service, snapshot.gpus, settings), view.vram_by_gpu)

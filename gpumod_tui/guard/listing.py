"""One list of models from those of several routers."""

import json
from collections.abc import Sequence
from typing import Any

from gpumod_tui.core.models import ModelStatus
from gpumod_tui.guard.choice import Candidate, choose
from gpumod_tui.guard.upstreams import Answer, Router


def merged(told: Sequence[tuple[Router, Answer | BaseException]]) -> list[dict[str, Any]]:
    """One entry an id: that of the router which a request for it would go to. Who failed to answer has none."""
    entries: dict[str, dict[str, dict[str, Any]]] = {}
    for router, answer in told:
        if isinstance(answer, Answer) and answer.status == 200:
            for entry in json.loads(answer.body).get("data", ()):
                entries.setdefault(entry["id"], {})[router.service.id] = entry
    defaults = {router.service.id: router.service.default_model for router, _ in told}
    data = []
    for name, by_service in entries.items():
        candidates = [
            Candidate(service, ModelStatus(entry.get("status", {}).get("value", "")), defaults[service] == name)
            for service, entry in by_service.items()
        ]
        chosen = choose(candidates)
        data.append(by_service[chosen if isinstance(chosen, str) else chosen[0]])
    return data

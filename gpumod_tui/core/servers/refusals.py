"""Options and variables that a preset may not hand to a server: they would undo what gpumod promises."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gpumod_tui.core.catalog.validation import Fault, shown
from gpumod_tui.core.models import DriverKind
from gpumod_tui.core.units.addresses import exposed, is_anywhere

_BOUND: Final = "nothing: gpumod binds servers to 127.0.0.1 and the preset's port"
_SLEEP: Final = "nothing: a server that sleeps and wakes on its own takes VRAM nobody admitted"
_READABLE: Final = "api_key_file: the command line is readable by everyone on the host"
_READABLE_ENV: Final = "api_key_file, or a variable that names a file: a unit's environment is readable by everyone"

_PLACED: Final = "gpus, and vram_mb as a list where each is to take another part"
_FETCHED: Final = "unit_vars.model_path: a file that is there"
_FETCHES: Final = (
    "--embd-gemma-default",
    "--fim-qwen-1.5b-default",
    "--fim-qwen-3b-default",
    "--fim-qwen-7b-default",
    "--fim-qwen-7b-spec",
    "--fim-qwen-14b-spec",
    "--fim-qwen-30b-default",
    "--gpt-oss-20b-default",
    "--gpt-oss-120b-default",
    "--vision-gemma-4b-default",
    "--vision-gemma-12b-default",
)
"""Options of llama-server that name a model, and a draft model, of the internet."""

_LLAMACPP: Final[Mapping[str, str]] = {
    **dict.fromkeys(("--host", "--port", "--reuse-port"), _BOUND),
    **dict.fromkeys(("--api-key", "--hf-token", "-hft"), _READABLE),
    "--sleep-idle-seconds": _SLEEP,
    "--models-autoload": "nothing: a router that loads on its own asks nobody whether it fits",
    "--models-preset": "nothing: its sections load models and set options past gpumod",
    "--models-dir": "unit_vars.models_dir",
    "--models-max": "unit_vars.models_max",
    **dict.fromkeys(("-m", "--model"), "unit_vars.model_path"),
    **dict.fromkeys(
        ("-mu", "--model-url", "-dr", "--docker-repo", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"),
        _FETCHED,
    ),
    **dict.fromkeys(_FETCHES, _FETCHED),
    **dict.fromkeys(
        ("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf"),
        "--model-draft FILE: a draft model that is there, whose need is counted",
    ),
    **dict.fromkeys(("-mmu", "--mmproj-url"), "--mmproj FILE: a projector that is there, whose need is counted"),
    "--api-key-file": "api_key_file",
    **dict.fromkeys(
        (
            *("-ts", "--tensor-split", "-sm", "--split-mode", "-mg", "--main-gpu", "-dev", "--device"),
            *("-devd", "--device-draft", "--spec-draft-device", "-mmdev", "--mmproj-device"),
        ),
        _PLACED,
    ),
    "--rpc": "nothing: memory of another machine cannot be admitted here",
}
_VLLM: Final[Mapping[str, str]] = {
    **dict.fromkeys(("--host", "--port", "--uds", "--fd", "--config"), _BOUND),
    **dict.fromkeys(("--api-key", "--hf-token", "--ssl-keyfile-password"), _READABLE),
    "--enable-sleep-mode": "unit_vars.enable_sleep_mode",
    "--gpu-memory-utilization": "unit_vars.gpu_mem_util",
    **dict.fromkeys(("--kv-cache-memory-bytes", "--num-gpu-blocks-override"), "unit_vars.gpu_mem_util"),
    "--model": "model_id or unit_vars.model_path",
    **dict.fromkeys(("--tensor-parallel-size", "-tp"), "gpus: one process for each"),
}
_UVICORN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("--host", "--port", "--uds", "--fd"), _BOUND),
    "--ssl-keyfile-password": _READABLE,
    "--workers": "unit_vars.workers",
}
_LOOPBACK: Final = "an address on loopback, e.g. 127.0.0.1"
_SECRET_NAME: Final = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:_|$)")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_OWNED_ENV: Final[Mapping[str, str]] = {
    "CUDA_VISIBLE_DEVICES": "gpus",
    "CUDA_DEVICE_ORDER": "nothing: it is always PCI_BUS_ID",
    "GPUMOD_MEMORY_SETTINGS": "nothing: it tells what the unit was installed for",
    "VLLM_SERVER_DEV_MODE": "unit_vars.enable_sleep_mode",
}
_OPTION_ENV: Final = ("LLAMA_ARG_", "UVICORN_")


def refused_arguments(driver: DriverKind, arguments: Sequence[str], key: str) -> list[Fault]:
    """A fault for each word that may not be there."""
    if driver is DriverKind.COMMAND:
        return [Fault(key, shown(words), _LOOPBACK) for words in exposed(arguments)]
    faults = []
    for word in arguments:
        expected = _refusal(driver, word)
        if expected:
            faults.append(Fault(key, shown(word.partition("=")[0]), expected))
    return faults


def _refusal(driver: DriverKind, word: str) -> str | None:
    """What to write instead of this option; None: it may stay.

    llama-server and vLLM read `_` as `-` in long options; argparse takes any unambiguous beginning of one.
    """
    if not word.startswith("-"):
        return None
    name = word.partition("=")[0]
    if name.startswith("--"):
        name = name.replace("_", "-")
    if driver is DriverKind.LLAMACPP:
        return _LLAMACPP.get(name)
    refused = _VLLM if driver is DriverKind.VLLM else _UVICORN
    if not name.startswith("--"):
        return next(
            (expected for short, expected in refused.items() if short[1] != "-" and name.startswith(short)), None
        )
    if name == "--":
        return "no bare --"
    return next((expected for option, expected in refused.items() if option.startswith(name)), None)


def refused_environment(env: Mapping[str, str]) -> list[Fault]:
    """A fault for each variable that may not be there."""
    faults = []
    for name, value in env.items():
        key = f"env.{name}"
        if not _ENV_NAME.match(name):
            faults.append(Fault(key, shown(name), "a name of letters, digits and _"))
        elif name in _OWNED_ENV:
            faults.append(Fault(key, "a variable that gpumod sets", _OWNED_ENV[name]))
        elif name.startswith(_OPTION_ENV):
            faults.append(Fault(key, "a server's option", "unit_vars, or unit_vars.extra_args"))
        elif is_anywhere(value):
            faults.append(Fault(key, shown(value), _LOOPBACK))
        elif _SECRET_NAME.search(name.upper()) and not name.upper().endswith(("_FILE", "_PATH")):
            faults.append(Fault(key, "what looks like a secret", _READABLE_ENV))
        elif any((ord(character) < 32 and character not in "\t\n") or ord(character) == 127 for character in value):
            faults.append(Fault(key, "a control character", "text; systemd drops such a variable without a word"))
    return faults

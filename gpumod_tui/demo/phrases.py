"""What the played servers write to their journal."""

from collections.abc import Iterator

ROUTER_BOOT = (
    (6, "srv    router: no model given, starting in router mode"),
    (6, "srv    router: 2 presets found in the models directory"),
    (6, "main: router is listening on http://127.0.0.1:{port}"),
)
ROUTER_LOAD = (
    (6, "srv  load_model: loading model '{model}.gguf'"),
    (6, "load_tensors: offloaded 48/48 layers to GPU"),
    (6, "llama_kv_cache: size = 1632.00 MiB ( 32768 cells, 47 layers, 1/1 seqs)"),
    (6, "srv  load_model: model {model} is loaded"),
)
ROUTER_OOM = (
    (
        3,
        "ggml_cuda: allocating 18211.40 MiB on device 0: cudaMalloc failed: out of memory",
    ),
    (3, "llama_model_load: error loading model: unable to allocate CUDA0 buffer"),
    (3, "srv  load_model: failed to load model '{model}.gguf'"),
    (4, "srv    router: child of {model} exited with status 1"),
)
VLLM_BOOT = (
    (6, "INFO [api_server.py] vLLM API server starting for {model}"),
    (6, "INFO [gpu_model_runner.py] Starting to load model {model}..."),
    (6, "INFO [default_loader.py] Loading weights took 3.42 seconds"),
    (6, "INFO [gpu_model_runner.py] Model loading took 4.08 GiB and 3.9 seconds"),
    (6, "INFO [monitor.py] torch.compile takes 5.12 s in total"),
    (6, "INFO [gpu_worker.py] Available KV cache memory: 1.21 GiB"),
    (6, "INFO [gpu_model_runner.py] Graph capturing finished in 2 secs, took 0.31 GiB"),
    (6, "INFO:     Application startup complete."),
)
VLLM_OOM = (
    (6, "INFO [gpu_model_runner.py] Starting to load model {model}..."),
    (
        3,
        "ERROR [core.py] Free memory on device cuda:0 (3.29/23.99 GiB) is less than desired GPU memory utilization",
    ),
    (3, "ERROR [api_server.py] RuntimeError: EngineCore failed to start, see the lines above"),
)
PLAIN_BOOT = (
    (6, "INFO:     Started server process"),
    (6, "INFO:     Application startup complete."),
)
PORT_TAKEN_LLAMA = (
    (3, "start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {port}"),
    (3, "srv    router: exiting due to HTTP server error"),
)
PORT_TAKEN = ((3, "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', {port}): in use"),)


def llama_chat(request: int) -> Iterator[str]:
    """The lines of one answered chat request."""
    prompt, answer = 40 + request * 37 % 900, 20 + request * 53 % 400
    slot = request % 4
    yield f"slot launch_slot_: id {slot} | task {request} | processing task, n_prompt = {prompt}"
    yield f"slot print_timing: id {slot} | prompt eval time = {prompt / 6.1:.2f} ms / {prompt} tokens"
    yield f"slot print_timing: id {slot} | eval time = {answer * 8.9:.2f} ms / {answer} tokens, 112.4 tokens/s"
    yield f"slot release: id {slot} | task {request} | stop processing: n_tokens = {prompt + answer}"


def vllm_request(request: int) -> Iterator[str]:
    """The lines of one answered embedding request."""
    yield f'INFO:     127.0.0.1:{40000 + request * 7 % 20000} - "POST /v1/embeddings HTTP/1.1" 200 OK'
    if request % 3 == 0:
        yield f"INFO [loggers.py] Engine 000: prompt throughput: {300 + request * 17 % 900}.0 tokens/s, Running: 1 reqs"

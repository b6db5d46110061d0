"""Writes random llama models of half a MiB that a real llama-server loads in milliseconds. Usage: tiny_models.py DIR.

The file names are those of the models that QA.md names, so the router lists them under the same ids.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT = 64, 2, 2, 128, 4096
SPECIAL = ["<unk>", "<s>", "</s>"]
EXTRA = ["\u2581", "<think>", "</think>"]
INFILL = {"fim_pre": "<PRE>", "fim_suf": "<SUF>", "fim_mid": "<MID>"}

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# llama.cpp finds out by trial renderings how a template marks reasoning: it has to read reasoning_content and obey
# enable_thinking, else the answer carries no reasoning_content even though the prompt ends with <think>.
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and message.reasoning_content %}"
    "<think>\n{{ message.reasoning_content }}\n</think>\n{% endif %}"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>\n{% endif %}"
    "{% endif %}"
)
MODELS = {
    "GLM-4.7-Flash-UD-Q4_K_XL": TEMPLATE,
    "Nemotron-3-Nano-30B-A3B-UD-Q4_K_XL": THINKING,
}


def add_vocabulary(writer: gguf.GGUFWriter) -> int:
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *EXTRA, *INFILL.values()]
    kind = gguf.TokenType
    types = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256
    types += [kind.NORMAL, kind.USER_DEFINED, kind.USER_DEFINED] + [kind.CONTROL] * len(INFILL)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    for name, token in INFILL.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", tokens.index(token))
    return len(tokens)


def write_model(path: Path, name: str, template: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    # One a component: a server with --reranking then answers for embeddings, too, with as many as a hidden state has.
    writer.add_array("llama.classifier.output_labels", [f"label {index}" for index in range(WIDTH)])
    vocabulary = add_vocabulary(writer)
    writer.add_vocab_size(vocabulary)
    writer.add_chat_template(template)

    random = np.random.default_rng(len(name))

    def weights(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 0.05).astype(np.float32)

    # The first component of every hidden state is large and steady, and the output turns it into a bias towards
    # printable ASCII: a random model would answer with broken UTF-8 and stop at random.
    embedding = weights(vocabulary, WIDTH) * 10
    embedding[:, 0] = 2.0
    output = weights(vocabulary, WIDTH) * 10
    output[:, 0] = -2.0
    first_byte = len(SPECIAL)
    output[first_byte + ord(" ") : first_byte + ord("~"), 0] = 2.0
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{part}.weight", weights(WIDTH, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_gate.weight", weights(HIDDEN, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", weights(HIDDEN, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", weights(WIDTH, HIDDEN))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, template in MODELS.items():
        write_model(directory / f"{name}.gguf", name, template)

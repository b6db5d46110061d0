"""A played host: the whole world of gpumod in memory, for `gpumod demo` and for tests."""

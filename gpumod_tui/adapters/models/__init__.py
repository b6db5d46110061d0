"""Model files: GGUF headers and where models lie."""

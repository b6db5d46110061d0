"""What the guard knows of llama.cpp routers."""

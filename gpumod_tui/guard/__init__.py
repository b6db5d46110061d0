"""The guard: the proxy that holds the ports of servers whose requests can make VRAM grow, and puts admission first."""

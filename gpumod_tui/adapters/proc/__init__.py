"""procfs: processes, cgroups and sockets."""

"""What the dashboard and `gpumod status` show."""

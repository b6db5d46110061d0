"""What is known of each kind of server."""

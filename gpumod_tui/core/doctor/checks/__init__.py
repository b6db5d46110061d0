"""The doctor's checks: what they take is already read, or a port; each returns findings and touches nothing."""

"""The priority of realtime requests over batch work."""

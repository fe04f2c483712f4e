"""What bench/run is made of: servers (who is measured), scenarios (how), report (what it means)."""

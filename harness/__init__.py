"""Policy: scenarios, plans, runs, measurements, results."""

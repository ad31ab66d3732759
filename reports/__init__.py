"""Reports: stored results as tables, figures and pages; draws only, measures nothing."""

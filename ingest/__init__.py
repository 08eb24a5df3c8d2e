"""From published sources to indexed chunks."""

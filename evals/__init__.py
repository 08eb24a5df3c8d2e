"""Is it right, is it still right, and may this change go in."""

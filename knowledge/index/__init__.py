"""What the ingestion wrote, and finding things in it."""

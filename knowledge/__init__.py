"""What is known about vLLM's parallelism, and how it is found."""

"""What is known without running: one pass over the model."""

"""What several backends, and the jobs that drive them, share; nothing here registers itself."""

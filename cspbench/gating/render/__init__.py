"""What a gate's report looks like: terminal, Markdown, JUnit, annotations, compare page."""

"""The outputs of a gate: terminal, Markdown, JUnit, annotations and compare page."""

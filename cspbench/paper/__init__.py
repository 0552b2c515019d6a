"""The paper checked against measurements: claims, verdicts, tables reproduced, theory."""

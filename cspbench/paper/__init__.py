"""The paper held against measurements: claims, verdicts, tables reproduced, theory."""

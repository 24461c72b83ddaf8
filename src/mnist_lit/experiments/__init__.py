"""Several fits as one experiment, a subprocess each: seeds, sweeps, and the proof that a killed run resumes exactly."""

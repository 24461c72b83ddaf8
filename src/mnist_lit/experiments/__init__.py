"""Several fits as one experiment: seeds, sweeps and the proof that a killed run resumes exactly. Each fit runs in a
process of its own.
"""

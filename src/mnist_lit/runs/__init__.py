"""Run folders and what is in them: names, checkpoints, curves, recipes, results, and where a fit resumes."""

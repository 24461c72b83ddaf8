"""What `mnist-lit fit` and `test` add to a plain Trainer, as Lightning callbacks: checkpoints, stopping, TensorBoard
figures, tables and exact resume. `cli/trainer.py` connects them and lists them in the order in which they run.
"""

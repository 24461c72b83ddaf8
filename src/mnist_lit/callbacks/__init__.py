"""What `mnist-lit fit` and `test` add to a plain Trainer, as Lightning callbacks: checkpoints, stopping, TensorBoard
figures, tables and exact resume. Each works on its own; `defaults.py` lists them in the order in which they run.
"""

"""mnist-lit: the classic 4-convolution MNIST network as a PyTorch Lightning project.

The command line is `mnist-lit`. From Python, import the room you want: `mnist_lit.network.TutorialCNN`,
`mnist_lit.classifier.Classifier`, `mnist_lit.datamodule.DigitsDataModule`. This file imports nothing, so that
`mnist-lit --help` stays fast.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"

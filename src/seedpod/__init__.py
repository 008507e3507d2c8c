"""seedpod: hyperparameter search for image classifiers. One seed, any number of pods, the same answer."""

__version__ = "0.1.0"

"""From a report to trained networks: image data, the classifier, the job that trains the best, and exports.

The modules are imported by name (``ednag.data.datasets``), so that loading a trained network
(:func:`ednag.load`) never imports the training framework.
"""

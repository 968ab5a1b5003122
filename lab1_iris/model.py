"""What a saved classifier is made of besides scikit-learn's own, and which types its file may hold."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression

TRUSTED = [  # types in the candidates' files that skops does not trust by itself
    "lab1_iris.model.PortableLogisticRegression",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
]


class PortableLogisticRegression(LogisticRegression):
    """Logistic regression that scikit-learn 1.6, which Colab has, can use when 1.9 saved it.

    Its predictions there read `multi_class`, which 1.8 removed and so does not save. This class is in
    saved models by its name and module: neither may move.
    """

    multi_class = "deprecated"  # 1.6's default

"""Gradient boosting with scikit-learn, without a line of paramcast.

python boosting.py --seed 0 --leaves 31
"""

import argparse
import json

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--leaves", type=int, default=31)
args = parser.parse_args()

x, y = load_breast_cancer(return_X_y=True)
x, x_test, y, y_test = train_test_split(x, y, test_size=0.3, random_state=args.seed, stratify=y)
model = HistGradientBoostingClassifier(
    max_iter=40, max_leaf_nodes=args.leaves, random_state=args.seed
).fit(x, y)
probabilities = model.predict_proba(x_test)
print(f"{model.n_iter_} trees")
print(
    json.dumps(
        {"log_loss": log_loss(y_test, probabilities), "accuracy": model.score(x_test, y_test)}
    )
)

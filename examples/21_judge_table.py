"""A verdict on results from anywhere: scikit-learn's classifiers, one row per model and split.

Writes results.csv, which  paramcast judge results.csv --base logistic  reads as well.
"""

import pandas
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

import paramcast

x, y = load_digits(return_X_y=True)
models = {
    "logistic": LogisticRegression(max_iter=200, tol=1e-2),
    "neighbors": KNeighborsClassifier(3),
    "bayes": GaussianNB(),
}
rows = []
for seed in range(12):
    train_x, test_x, train_y, test_y = train_test_split(x / 16, y, test_size=0.5, random_state=seed)
    for name, model in models.items():
        accuracy = model.fit(train_x, train_y).score(test_x, test_y)
        rows.append({"model": name, "seed": seed, "accuracy": accuracy})
table = pandas.DataFrame(rows)
table.to_csv("results.csv", index=False)

if __name__ == "__main__":
    result = paramcast.judge(table, base="logistic", out="judged")
    print(result)
    print(result.report("report.html"))

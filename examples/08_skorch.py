"""PLP within scikit-learn's grid search: is it better than its base at the best rate of each?"""

from functools import partial

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier

from paramcast.integrations.skorch import plp

torch.set_num_threads(1)  # the network is small
torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        )

    def forward(self, x):
        return self.layers(x)


net = NeuralNetClassifier(
    Net,
    criterion=torch.nn.CrossEntropyLoss,
    optimizer__momentum=0.9,
    max_epochs=5,
    batch_size=64,
    train_split=None,
    verbose=0,
)
bases = {"sgd": torch.optim.SGD, "plp": partial(plp, torch.optim.SGD)}
grid = {"optimizer": list(bases.values()), "lr": [0.02, 0.05, 0.1]}
search = GridSearchCV(net, grid, cv=3, scoring="accuracy").fit(x, y)

print("method  lr     accuracy %  (one seed, 3 folds: a look, no verdict; that is the pilot's)")
scores = search.cv_results_["mean_test_score"]
for setting, score in zip(search.cv_results_["params"], scores, strict=True):
    name = next(name for name, base in bases.items() if base is setting["optimizer"])
    print(f"{name:6s}  {setting['lr']:<5}  {100 * score:.2f}")

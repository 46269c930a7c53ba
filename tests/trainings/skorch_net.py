"""A scikit-learn pipeline around a skorch network."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

metric = "accuracy"
lr_range = (0.003, 0.3)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(dim=-1)
        )

    def forward(self, x):
        return self.layers(x)


def train(trial):
    torch.manual_seed(trial.seed)

    def optimizer(params, lr):
        return trial.wrap(torch.optim.SGD(params, lr=lr, momentum=0.9))

    net = NeuralNetClassifier(
        Net, optimizer=optimizer, lr=trial.lr, batch_size=32,
        max_epochs=max(1, round(5 * trial.share)), train_split=None, verbose=0,
        iterator_train__shuffle=True,
    )  # fmt: skip
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    model = make_pipeline(StandardScaler(), net).fit(x[:900], y[:900])
    with trial.eval_weights(net.module_):
        return {
            "validation_loss": log_loss(y[900:1300], model.predict_proba(x[900:1300])),
            "accuracy": model.score(x[1300:], y[1300:]),
        }

"""Optimizers of a user's, in a file that a test writes."""

OPTIMIZERS = """
import torch

class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, beta1=0.9, beta2=0.99):
        super().__init__(params, {"lr": lr, "betas": (beta1, beta2)})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            a, b = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.sub_(group["lr"] * torch.sign(m.lerp(p.grad, 1 - a)))
                m.lerp_(p.grad, 1 - b)

def same(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)

def rate_by_place(parameters, rate, /):
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9)

def halved(optimizer, by=0.5):
    def halve(self, *_):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad *= by
    optimizer.register_step_pre_hook(halve)
    return optimizer

def nothing(parameters, lr):
    return None

def three(a, b, c):
    return None

def some(parameters, lr):
    return torch.optim.SGD(parameters[:1], lr=lr)

def fails(parameters, lr):
    return {}["x"]
"""

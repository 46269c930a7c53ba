"""The loop of 01 under Accelerate: accumulated gradients, and a state that resumes in mid-cycle."""

import tempfile

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits

import paramcast
from paramcast.integrations.common import unwrap

torch.set_num_threads(1)  # the network is small
torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train, test = slice(0, 1200), slice(1200, None)
data = torch.utils.data.TensorDataset(images[train], labels[train])

model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.MaxPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(16 * 4 * 4, 10),
)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
optimizer = paramcast.PLP(optimizer)  # the one line, before prepare
model, optimizer, loader = accelerator.prepare(
    model, optimizer, torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
)

for epoch in range(4):
    for x, y in loader:
        with accelerator.accumulate(model):
            accelerator.backward(torch.nn.functional.cross_entropy(model(x), y))
            optimizer.step()  # acts on every second micro-batch
            optimizer.zero_grad()
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
    print(f"epoch {epoch + 1}: test accuracy {100 * accuracy:.2f} %")

plp = unwrap(optimizer)  # Accelerate keeps it inside its own wrapper
print("last prediction:", plp.last_event)
with tempfile.TemporaryDirectory() as folder:
    accelerator.save_state(folder)
    plp.restart_cycle()
    accelerator.load_state(folder)
print("resumed", plp.state_dict()["paramcast"]["cycle"]["done"], "steps into a cycle of 3")

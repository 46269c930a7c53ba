"""The same loop with PLP: one line more, and it resumes in the middle of a cycle."""

import io

import torch
from sklearn.datasets import load_digits

import paramcast

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train, test = slice(0, 1200), slice(1200, None)

model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.MaxPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(16 * 4 * 4, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
optimizer = paramcast.PLP(optimizer)  # the one line
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5 * 38)

for epoch in range(5):
    for batch in torch.randperm(1200).split(32):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
    print(f"epoch {epoch + 1}: test accuracy {100 * accuracy:.2f} %")

print("last prediction:", optimizer.last_event)

# A checkpoint holds the running cycle too, and the bare optimizer can read it.
file = io.BytesIO()
torch.save(optimizer.state_dict(), file)
file.seek(0)
resumed = paramcast.PLP(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
resumed.load_state_dict(torch.load(file))
print("resumed", resumed.state_dict()["paramcast"]["cycle"]["done"], "steps into a cycle of 3")

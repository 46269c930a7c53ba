"""PLP with sharded parameters, and a checkpoint that continues in the middle of a cycle.

torchrun --standalone --nproc-per-node 2 examples/11_distributed.py     (one process works too)
"""

import tempfile
import warnings

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from sklearn.datasets import load_digits
from torch.distributed.fsdp import fully_shard

import paramcast
from paramcast.integrations.checkpoint import TrainingState

warnings.filterwarnings("ignore", module="torch")  # its checkpoint code warns of its own parts
torch.set_num_threads(1)
if dist.is_torchelastic_launched():
    dist.init_process_group("gloo")
else:  # started without torchrun
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
rank, world = dist.get_rank(), dist.get_world_size()

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
labels = torch.tensor(digits.target)
train, test = slice(0, 1200), slice(1200, None)


def build() -> tuple[torch.nn.Module, paramcast.PLP]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10))
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    base = torch.optim.AdamW(model.parameters(), lr=0.01)
    # The gate's norms are those of the whole tensors, so all processes decide alike.
    return model, paramcast.PLP(base, gate=paramcast.gates.MaxRelativeJump(0.05))


def run(model: torch.nn.Module, optimizer: paramcast.PLP, steps: range) -> None:
    for step in steps:
        batch = torch.randperm(1200, generator=torch.Generator().manual_seed(step))[:64]
        mine = batch.chunk(world)[rank]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[mine]), labels[mine]).backward()
        optimizer.step()


def accuracy(model: torch.nn.Module) -> float:
    with torch.no_grad():
        return (model(images[test]).argmax(1) == labels[test]).float().mean().item()


folder = [tempfile.mkdtemp() if rank == 0 else ""]
dist.broadcast_object_list(folder)

model, optimizer = build()
run(model, optimizer, range(40))  # 40 = 13 cycles and one step
rows = optimizer.state_dict()["paramcast"]["cycle"]["buffers"]
held = sum(buffer.numel() for row in rows for buffer in row)
dcp.save({"training": TrainingState(model, optimizer)}, checkpoint_id=folder[0])
run(model, optimizer, range(40, 60))

resumed, second = build()
dcp.load({"training": TrainingState(resumed, second)}, checkpoint_id=folder[0])
run(resumed, second, range(40, 60))

same = all(
    torch.equal(a.to_local(), b.to_local())
    for a, b in zip(model.parameters(), resumed.parameters(), strict=True)
)
share = sum(p.to_local().numel() for p in model.parameters())
total = sum(p.numel() for p in model.parameters())
correct = 100 * accuracy(model)
print(f"rank {rank} of {world}: {share} of {total} parameters, {held} buffer elements")
if rank == 0:
    print(f"test accuracy {correct:.2f} %; {second.last_event}")
print(f"rank {rank}: the resumed run is {'bitwise the same' if same else 'DIFFERENT'}")
dist.destroy_process_group()

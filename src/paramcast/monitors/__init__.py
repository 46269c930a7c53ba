"""Watching predictions: functions of a `ForecastEvent`, called once for each prediction.

Any function of an event is a monitor. Those here take `every=n` to look at every n-th prediction
only, and a request, which costs only when they look: `scored=True` compares the prediction with the
step that follows it (`error` and `cosine` of the event, which then comes one step later; two more
elements of memory per parameter).

On an accelerator, an event comes one cycle later, when its numbers have arrived, so that nothing
waits; events that are scored do wait. `optimizer.flush()` at the end of a run reports those still
waiting.
"""

from .base import History as History
from .base import Logger as Logger
from .base import Monitor as Monitor
from .files import CSV as CSV
from .files import JSONLines as JSONLines
from .trackers import MLflow as MLflow
from .trackers import TensorBoard as TensorBoard
from .trackers import WandB as WandB

"""Copies of a pilot's or study's runs in experiment trackers, made while it goes on.

The store is the truth: a tracker is told what has been read from it, and may be thrown away.
"""

from .following import Following as Following
from .following import Tracker as Tracker

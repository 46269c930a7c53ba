"""The report of a pilot or study: stored rows in, one self-contained page out; no torch.

load.py        the folder's files
comparison.py  the runs behind each arm of a comparison
verdict.py, effect.py, curves.py, tuning.py, predictions.py, numbers.py, runs.py, payoff.py,
method.py      the rooms of the page
study.py       the charts of a whole study
plotting.py    the parts of charts
report.py      everything that the page shows, as a plain dict in one language
page.py        that dict as HTML; text.py as Markdown; pdf.py as PDF
write.py       from a folder to a file
"""

"""The report of a pilot or study: stored rows in, one self-contained page out; no torch.

load.py    the folder's files                 cells.py    which runs belong to which arm
charts.py  one comparison, predictions.py     marks.py    what charts are made of
maps.py    a study, profiles.py, rates.py     words.py    the catalogue of a language
numbers.py all numbers, rows.py runs          tables.py   CSV
payoff.py  key figures and return
data.py    everything the page shows, as a plain dict, in one language
page.py    that dict as HTML, text.py as Markdown and LaTeX, pdf.py as PDF; write.py writes it
"""

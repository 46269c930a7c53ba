"""The report of a pilot or study: stored rows in, one self-contained page out; no torch.

load.py    the folder's files                 cells.py    which runs belong to which arm
charts.py  one comparison, maps.py a study    marks.py    what charts are made of
rows.py    runs, tables.py CSV                words.py    the catalogue of a language
data.py    everything the page shows, as a plain dict, in one language
page.py    that dict as HTML, text.py as Markdown and LaTeX, pdf.py as PDF; write.py writes it
"""

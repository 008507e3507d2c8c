"""A search as a page for a browser on this machine, and as numbers for Prometheus.

page.py       WebDashboard: an Observer and a progress callback that feed the page
state.py      PageState: what the page may show, bounded, and what of it one browser has not been told
facts.py      plan, trial, progress and summary as JSON data
metrics.py    the same search in Prometheus's text form
address.py    the port and the token of a run, which an open page keeps over a restart
server.py     the HTTP side, in a thread of its own; the only importer of aiohttp here
assets/       the page itself; plotly.min.js comes from the installed plotly
"""

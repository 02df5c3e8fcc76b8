"""The pages a person meets in a browser: for now the one on which a device waits to be let in.

`render` turns facts into HTML and knows no web server; `routes` serves it. A page needs nothing from elsewhere, runs
without script (the script only saves reloads), and shows what strangers send as text.
"""

"""The view kept up one event at a time: what it can affect is found, derived again, compared.

Rule 1: rows are derived by the functions that `whole.project` uses, over a part that is closed.
Rule 2: nothing here knows where rows stay: a `Workspace` reads them and takes the changes.
"""
